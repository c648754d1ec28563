"""A Databricks workspace on this machine: one-time runs that really run, workspace files, volumes and clusters."""
