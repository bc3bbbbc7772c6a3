"""Simulated power cuts and failing disks: is every acknowledged message on the disk?"""
