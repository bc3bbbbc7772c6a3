"""Power cuts and failing disks, simulated: what would be on the disk, and is it enough?"""
