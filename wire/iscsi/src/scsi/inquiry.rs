//! INQUIRY (SPC-4 section 6.6) and the vital product data pages (section 7.8, SBC-3 section 6.5).

use crate::be;

use super::blocks::{MAX_COMPARE_AND_WRITE, MAX_TRANSFER, MAX_UNMAP, MAX_UNMAP_RANGES, MAX_WRITE_SAME};
use super::sense::{Refusal, Sense};
use super::unit::State;
use super::{Nexus, Plan, Unit, copy};

pub(crate) fn inquiry(unit: &Unit, state: &State, nexus: &Nexus, cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    let page = cdb[2];
    let mut data = if cdb[1] & 1 == 0 {
        // A page without EVPD means nothing (SPC-4 section 6.6.1).
        if page != 0 {
            return Err(Sense::cdb_field(2, None).into());
        }
        standard(unit)
    } else {
        let (_, build) = PAGES.iter().find(|(code, _)| *code == page).ok_or(Sense::cdb_field(2, None))?;
        let body = build(unit, state, nexus);
        let mut data = vec![0, page];
        data.extend_from_slice(&u16::try_from(body.len()).unwrap_or(0).to_be_bytes());
        data.extend_from_slice(&body);
        data
    };
    data.truncate(usize::from(be::u16(cdb, 3)));
    Ok(Plan::Data(data))
}

/// INQUIRY of a unit that does not exist: qualifier 3, type 0x1f (SPC-4 section 6.6.2).
pub(crate) fn absent(cdb: &[u8; 16]) -> Result<Plan, Refusal> {
    if cdb[1] & 1 != 0 || cdb[2] != 0 {
        return Err(Sense::cdb_field(2, None).into());
    }
    let mut data = vec![0u8; 36];
    be::put(&mut data, 0, &[0x7f, 0, 0x06, 0x02, 31]);
    data.truncate(usize::from(be::u16(cdb, 3)));
    Ok(Plan::Data(data))
}

fn standard(unit: &Unit) -> Vec<u8> {
    let identity = &unit.identity;
    let mut data = vec![0u8; 96];
    let removable = if identity.removable { 0x80 } else { 0 };
    // SPC-4; HISUP and response format 2; TPGS 01b (implicit) and 3PC; CMDQUE.
    be::put(&mut data, 0, &[0x00, removable, 0x06, 0x12, 91, 0x18, 0x00, 0x02]);
    be::put_text(&mut data, 8, 8, &identity.vendor);
    be::put_text(&mut data, 16, 16, &identity.product);
    be::put_text(&mut data, 32, 4, &identity.revision);
    // SAM-5, iSCSI, SPC-4, SBC-3 (SPC-4 table 144).
    for (at, descriptor) in [0x00a0u16, 0x0960, 0x0460, 0x04c0].iter().enumerate() {
        be::put(&mut data, 58 + 2 * at, &descriptor.to_be_bytes());
    }
    data
}

type Page = fn(&Unit, &State, &Nexus) -> Vec<u8>;

const PAGES: &[(u8, Page)] = &[
    (0x00, supported_pages),
    (0x80, serial),
    (0x83, identification),
    (0x8f, third_party_copy),
    (0xb0, block_limits),
    (0xb1, characteristics),
    (0xb2, provisioning),
];

fn supported_pages(_: &Unit, _: &State, _: &Nexus) -> Vec<u8> {
    PAGES.iter().map(|(code, _)| *code).collect()
}

fn serial(unit: &Unit, _: &State, _: &Nexus) -> Vec<u8> {
    unit.identity.serial.bytes().take(64).collect()
}

/// Designators (SPC-4 section 7.8.6): T10 vendor and NAA of the unit, name and port of the target.
fn identification(unit: &Unit, _: &State, nexus: &Nexus) -> Vec<u8> {
    let mut data = Vec::new();
    let mut vendor = vec![0u8; 8];
    be::put_text(&mut vendor, 0, 8, &unit.identity.vendor);
    vendor.extend(unit.identity.serial.bytes().take(64));
    designator(&mut data, 0x02, 0x01, &vendor);
    designator(&mut data, 0x01, 0x03, &unit.identity.naa);
    // Protocol iSCSI, PIV, associated with the port: relative port, port group, name.
    let port = nexus.port.target_port.to_be_bytes();
    designator(&mut data, 0x51, 0x94, &[0, 0, port[0], port[1]]);
    designator(&mut data, 0x51, 0x95, &[0, 0, 0, 1]);
    designator(&mut data, 0x53, 0x98, &name_string(&format!("{},t,0x{:04x}", unit.target_name, 1)));
    // Associated with the target device.
    designator(&mut data, 0x53, 0xa8, &name_string(&unit.target_name));
    data
}

fn designator(data: &mut Vec<u8>, protocol_and_set: u8, association_and_kind: u8, value: &[u8]) {
    data.extend_from_slice(&[
        protocol_and_set,
        association_and_kind,
        0,
        u8::try_from(value.len()).unwrap_or(0),
    ]);
    data.extend_from_slice(value);
}

/// SCSI name string: UTF-8, ended and padded with zeros to four bytes, at most 255 (section 7.8.6.12).
fn name_string(name: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = name.bytes().take(247).collect();
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// SPC-4 section 7.8.17, with the commands that are in the table of opcodes.
fn third_party_copy(_: &Unit, _: &State, _: &Nexus) -> Vec<u8> {
    copy::vpd()
}

fn block_limits(unit: &Unit, state: &State, _: &Nexus) -> Vec<u8> {
    let block = u64::from(state.geometry.block_size.max(1));
    let physical = 1u32 << (state.geometry.physical_exponent & 0x0f);
    let mut data = vec![0u8; 60];
    let u32_of = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
    // WSNZ, and the longest COMPARE AND WRITE.
    be::put(&mut data, 0, &[0x01, u8::try_from(MAX_COMPARE_AND_WRITE).unwrap_or(u8::MAX)]);
    be::put(&mut data, 2, &u16::try_from(physical).unwrap_or(1).to_be_bytes());
    be::put(&mut data, 4, &u32_of(MAX_TRANSFER / block));
    be::put(&mut data, 8, &u32_of(OPTIMAL_TRANSFER / block));
    if unit.identity.thin {
        be::put(&mut data, 16, &u32_of(MAX_UNMAP));
        be::put(&mut data, 20, &u32_of(MAX_UNMAP_RANGES as u64));
        be::put(&mut data, 24, &physical.to_be_bytes());
        // UGAVALID, alignment 0.
        be::put(&mut data, 28, &[0x80, 0, 0, 0]);
    }
    be::put(&mut data, 32, &MAX_WRITE_SAME.to_be_bytes());
    data
}

/// SBC-3 section 6.5.2: not rotating.
fn characteristics(_: &Unit, _: &State, _: &Nexus) -> Vec<u8> {
    let mut data = vec![0u8; 60];
    // WABEREQ 01b: after BLOCK ERASE blocks can be read before they are written.
    be::put(&mut data, 0, &[0x00, 0x01, 0x00, 0x40]);
    data
}

/// SBC-3 section 6.5.4: LBPU, LBPWS, LBPWS10, LBPRZ, thin provisioned.
fn provisioning(unit: &Unit, _: &State, _: &Nexus) -> Vec<u8> {
    if unit.identity.thin { vec![0, 0xe4, 0x02, 0] } else { vec![0, 0, 0, 0] }
}

/// OPTIMAL TRANSFER LENGTH in bytes: a burst of iSCSI.
const OPTIMAL_TRANSFER: u64 = 1 << 20;
