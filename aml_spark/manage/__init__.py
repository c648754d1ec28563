"""A workspace's resources, through Microsoft's client for them: a module for each kind."""
