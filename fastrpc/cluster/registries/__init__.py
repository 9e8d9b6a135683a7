"""Keep the contract of a registry over what others have: etcd, ZooKeeper, Redis, DNS, files.

Each engine is loaded when a target names it, see `engines`: who uses none pays for none.
"""
