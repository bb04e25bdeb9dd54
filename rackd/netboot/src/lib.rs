//! The rack's DHCP, TFTP and HTTP boot servers.
