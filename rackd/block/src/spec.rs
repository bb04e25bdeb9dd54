//! What a target is made from.

use std::sync::Arc;

use farrier_iscsi::scsi::{Geometry, Identity, Unit};
use farrier_iscsi::{Chap, Target};

use crate::backing::Backing;

/// A target to be.
#[derive(Debug)]
pub struct TargetSpec {
    /// iSCSI name (RFC 7143 section 4.2.7), in lower case.
    pub name: String,
    pub alias: String,
    pub luns: Vec<LunSpec>,
    /// Of which an initiator must prove one; none: anybody may log in.
    pub accounts: Vec<Chap>,
    /// Initiator names that may log in; empty: any.
    pub initiators: Vec<String>,
}

/// A logical unit to be.
#[derive(Debug)]
pub struct LunSpec {
    number: u16,
    backing: Arc<dyn Backing>,
    read_only: bool,
    removable: bool,
    serial: Option<String>,
    medium: String,
    physical_block: Option<u64>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddError {
    #[error("target {0} exists already: remove it first")]
    Exists(String),
    #[error(
        "{0:?} is not an iSCSI name: expected iqn.YYYY-MM.domain:name in lower case, at most 223 characters"
    )]
    BadName(String),
    #[error("target {0} has no logical unit, or two with one number")]
    BadLuns(String),
    #[error("the secret of a target's mutual CHAP must be another than the initiator's")]
    SameSecret,
    #[error(
        "target {0}: expected at least one account to take from now on, saw none; remove the target instead"
    )]
    NoAccount(String),
    #[error("the medium of LUN {lun} has {size} bytes, which is not a whole number of blocks of 512")]
    BadSize { lun: u16, size: u64 },
}

impl LunSpec {
    pub fn new(number: u16, backing: Arc<dyn Backing>) -> LunSpec {
        LunSpec {
            number,
            backing,
            read_only: false,
            removable: false,
            serial: None,
            medium: String::new(),
            physical_block: None,
        }
    }

    pub fn read_only(self) -> LunSpec {
        LunSpec { read_only: true, ..self }
    }

    pub fn removable(self) -> LunSpec {
        LunSpec { removable: true, ..self }
    }

    /// What this medium is called, and none that the target had before it: serial number and NAA identifier come from
    /// it and the target's name. Whoever knows the old disk by them does not take this one for it.
    pub fn medium(self, name: impl Into<String>) -> LunSpec {
        LunSpec { medium: name.into(), ..self }
    }

    /// Unit serial number; without one it comes from the names of target and medium.
    pub fn serial(self, serial: impl Into<String>) -> LunSpec {
        LunSpec { serial: Some(serial.into()), ..self }
    }

    /// Bytes of a physical block that are announced, a power of two; without it the backing's own.
    pub fn physical_block(self, bytes: u64) -> LunSpec {
        LunSpec { physical_block: Some(bytes), ..self }
    }
}

impl TargetSpec {
    /// Checked, as the protocol wants it, with the media beside it in the same order.
    pub(crate) fn build(&self, ports: u16) -> Result<Built, AddError> {
        let known = ["iqn.", "eui.", "naa."].iter().any(|prefix| self.name.starts_with(prefix));
        let plain =
            self.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:".contains(c));
        if !known || !plain || self.name.len() > 223 {
            return Err(AddError::BadName(self.name.clone()));
        }
        check_accounts(&self.accounts)?;
        let mut luns: Vec<&LunSpec> = self.luns.iter().collect();
        luns.sort_by_key(|lun| lun.number);
        let numbers_differ = luns.windows(2).all(|pair| matches!(pair, [a, b] if a.number != b.number));
        if luns.is_empty() || !numbers_differ || luns.iter().any(|lun| lun.number > 0x3fff) {
            return Err(AddError::BadLuns(self.name.clone()));
        }
        let mut units = Vec::new();
        let mut backings = Vec::new();
        for lun in luns {
            units.push(Arc::new(self.unit(lun, ports)?));
            backings.push(Arc::clone(&lun.backing));
        }
        Ok((Arc::new(Target { name: self.name.clone(), alias: self.alias.clone(), units }), backings))
    }

    fn unit(&self, lun: &LunSpec, ports: u16) -> Result<Unit, AddError> {
        let size = lun.backing.size();
        if size == 0 || !size.is_multiple_of(u64::from(BLOCK)) {
            return Err(AddError::BadSize { lun: lun.number, size });
        }
        let hash = fnv(format!("{}/{}{}", self.name, lun.number, lun.medium).as_bytes());
        // NAA 3h, locally assigned (SPC-4 section 7.8.6.6.4).
        let naa = (hash & 0x0fff_ffff_ffff_ffff) | 0x3000_0000_0000_0000;
        let read_only = lun.read_only || lun.backing.is_read_only();
        let identity = Identity {
            vendor: "FARRIER".into(),
            product: "Block".into(),
            revision: "1".into(),
            serial: lun.serial.clone().unwrap_or_else(|| format!("{hash:016x}")),
            naa: naa.to_be_bytes(),
            removable: lun.removable,
            read_only,
            thin: lun.backing.can_discard(),
        };
        let physical = lun.physical_block.unwrap_or(lun.backing.block()).clamp(u64::from(BLOCK), 1 << 20)
            / u64::from(BLOCK);
        let geometry = Geometry {
            blocks: size / u64::from(BLOCK),
            block_size: BLOCK,
            physical_exponent: u8::try_from(physical.ilog2()).unwrap_or(0),
        };
        Ok(Unit::new(lun.number, &self.name, ports, identity, geometry))
    }
}

/// A secret that goes both ways would let one side's answers be used as the other's (RFC 7143 section 12.1.4).
pub(crate) fn check_accounts(accounts: &[Chap]) -> Result<(), AddError> {
    let same = |chap: &Chap| chap.target.as_ref().is_some_and(|own| own.secret == chap.initiator.secret);
    if accounts.iter().any(same) { Err(AddError::SameSecret) } else { Ok(()) }
}

/// A target, and what its units store their blocks in.
type Built = (Arc<Target>, Vec<Arc<dyn Backing>>);

/// FNV-1a: the same name gives the same identifier on every start and every rack.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Logical block: what firmware and boot loaders expect.
const BLOCK: u32 = 512;
