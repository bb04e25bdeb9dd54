//! farrier-agent: runs in the ramdisk, inspects the machine, writes its disk.
