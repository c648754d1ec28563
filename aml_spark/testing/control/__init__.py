"""The workspace's control plane, as Azure Resource Manager answers for it: a module for each kind of resource."""
