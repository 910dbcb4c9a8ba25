"""Resources whose create, read, update and delete are ours.

Pulumi keeps such a provider by reference to its module, so each lives in a module that can be imported.
"""
