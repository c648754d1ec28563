"""A data lake on this machine: a storage account with a hierarchical namespace, spoken to in both of its protocols."""
