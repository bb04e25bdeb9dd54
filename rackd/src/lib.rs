//! The rack daemon: netboot, block, bmc, switch and tasks of one rack.
