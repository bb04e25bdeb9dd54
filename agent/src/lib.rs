//! farrier-agent: runs in the ramdisk, inspects the machine, writes its disk.
pub mod args;
pub mod commands;
pub mod hardware;
pub mod limits;
pub mod machine;
pub mod manifest;
pub mod partitions;
pub mod root_device;
