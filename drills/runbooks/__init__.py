"""The runbooks as scripts: a module for each drill, whose steps are in the order of the page."""
