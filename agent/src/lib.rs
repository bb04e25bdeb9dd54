//! farrier-agent: runs in the ramdisk, inspects the machine, writes its disk.
pub mod args;
pub mod hardware;
pub mod machine;
