"""`conf/monitor.toml`, and the workspace's own monitors made from it."""
