"""The command line `aml-spark`: a module for each group of commands."""
