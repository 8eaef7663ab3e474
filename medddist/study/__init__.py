"""A profile's steps on a data source: each computed once, cached under the hash of what it depends
on.
"""
