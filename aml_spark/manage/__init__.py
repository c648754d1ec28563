"""A workspace's resources, through Microsoft's client for them: a module for each kind.

`workspaces`, `datastores`, `computes`, `models` and `jobs`. What they give back are azure-ai-ml's own objects; what
they add is progress, errors that say what there is and what to type, and calls that can be made again.
"""
