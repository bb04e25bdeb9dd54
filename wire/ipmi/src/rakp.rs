//! RAKP messages 1 to 4 (§13.20 to §13.23) and the HMACs that tie them together (§13.28.1).

use zeroize::Zeroizing;

use crate::crypto::{self, Key20, SessionKeys};
use crate::open_session::refusal_session_id;
use crate::reader::Reader;
use crate::{CipherSuite, MAX_USER_NAME, ParseError, RmcpStatus};

/// Role byte, bit 4: look the user up by name only, not by name and privilege (§13.20).
pub const NAME_ONLY_LOOKUP: u8 = 0x10;

/// Console → BMC: who wants in, and a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rakp1 {
    /// Comes back in RAKP 2.
    pub tag: u8,
    /// The BMC's session id.
    pub bmc_session_id: u32,
    /// R\[M\], the console's challenge.
    pub console_random: [u8; 16],
    /// Role\[M\]: privilege level and lookup bit.
    pub role: u8,
    /// At most 16 bytes.
    pub user: Vec<u8>,
}

impl Rakp1 {
    /// The payload.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.tag, 0, 0, 0];
        out.extend_from_slice(&self.bmc_session_id.to_le_bytes());
        out.extend_from_slice(&self.console_random);
        out.extend_from_slice(&[self.role, 0, 0, name_length(&self.user)]);
        out.extend(self.user.iter().take(MAX_USER_NAME));
        out
    }

    /// Reads a payload. Bytes after the name are ignored: some consoles always send 16.
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("RAKP message 1", payload);
        let [tag, _, _, _] = reader.array()?;
        let bmc_session_id = reader.u32_le()?;
        let console_random = reader.array()?;
        let [role, _, _, length] = reader.array()?;
        if usize::from(length) > MAX_USER_NAME {
            return Err(reader.unexpected("user name length", "at most 16", u32::from(length)));
        }
        let user = reader.take(usize::from(length))?.to_vec();
        Ok(Self { tag, bmc_session_id, console_random, role, user })
    }
}

/// BMC → console: a challenge back, and proof that the BMC knows the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rakp2 {
    /// The tag of RAKP 1.
    pub tag: u8,
    /// Accepted or why not.
    pub status: RmcpStatus,
    /// The console's session id.
    pub console_session_id: u32,
    /// What follows on success.
    pub proof: Option<Rakp2Proof>,
}

/// The second half of a good RAKP 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rakp2Proof {
    /// R\[C\], the BMC's challenge.
    pub bmc_random: [u8; 16],
    /// GUID\[C\].
    pub guid: [u8; 16],
    /// Key exchange authentication code: a whole HMAC.
    pub code: Vec<u8>,
}

impl Rakp2 {
    /// The payload.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.tag, self.status.0, 0, 0];
        out.extend_from_slice(&self.console_session_id.to_le_bytes());
        if let Some(proof) = &self.proof {
            out.extend_from_slice(&proof.bmc_random);
            out.extend_from_slice(&proof.guid);
            out.extend_from_slice(&proof.code);
        }
        out
    }

    /// Reads a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("RAKP message 2", payload);
        let tag = reader.u8()?;
        let status = RmcpStatus(reader.u8()?);
        if status != RmcpStatus::NO_ERRORS {
            let console_session_id = refusal_session_id(reader).unwrap_or(0);
            return Ok(Self { tag, status, console_session_id, proof: None });
        }
        let console_session_id = session_id(&mut reader)?;
        let bmc_random = reader.array()?;
        let guid = reader.array()?;
        let code = reader.rest().to_vec();
        Ok(Self { tag, status, console_session_id, proof: Some(Rakp2Proof { bmc_random, guid, code }) })
    }
}

/// Console → BMC: proof that the console knows the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rakp3 {
    /// Comes back in RAKP 4.
    pub tag: u8,
    /// The console's verdict on RAKP 2; anything but "no errors" gives up.
    pub status: RmcpStatus,
    /// The BMC's session id.
    pub bmc_session_id: u32,
    /// Key exchange authentication code: a whole HMAC.
    pub code: Vec<u8>,
}

impl Rakp3 {
    /// The payload.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.tag, self.status.0, 0, 0];
        out.extend_from_slice(&self.bmc_session_id.to_le_bytes());
        out.extend_from_slice(&self.code);
        out
    }

    /// Reads a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("RAKP message 3", payload);
        let tag = reader.u8()?;
        let status = RmcpStatus(reader.u8()?);
        let bmc_session_id = session_id(&mut reader)?;
        Ok(Self { tag, status, bmc_session_id, code: reader.rest().to_vec() })
    }
}

/// BMC → console: the session is open, and the BMC derived the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rakp4 {
    /// The tag of RAKP 3.
    pub tag: u8,
    /// Accepted or why not.
    pub status: RmcpStatus,
    /// The console's session id.
    pub console_session_id: u32,
    /// Integrity check value: an HMAC with the session integrity key, truncated.
    pub check: Vec<u8>,
}

impl Rakp4 {
    /// The payload.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.tag, self.status.0, 0, 0];
        out.extend_from_slice(&self.console_session_id.to_le_bytes());
        out.extend_from_slice(&self.check);
        out
    }

    /// Reads a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("RAKP message 4", payload);
        let tag = reader.u8()?;
        let status = RmcpStatus(reader.u8()?);
        if status != RmcpStatus::NO_ERRORS {
            let console_session_id = refusal_session_id(reader).unwrap_or(0);
            return Ok(Self { tag, status, console_session_id, check: Vec::new() });
        }
        let console_session_id = session_id(&mut reader)?;
        Ok(Self { tag, status, console_session_id, check: reader.rest().to_vec() })
    }
}

fn session_id(reader: &mut Reader<'_>) -> Result<u32, ParseError> {
    let _reserved = reader.take(2)?;
    reader.u32_le()
}

fn name_length(user: &[u8]) -> u8 {
    u8::try_from(user.len().min(MAX_USER_NAME)).unwrap_or(0)
}

/// Everything both ends know after RAKP 2: the input of all four HMACs.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) suite: CipherSuite,
    /// SID\[M\].
    pub(crate) console_session_id: u32,
    /// SID\[C\].
    pub(crate) bmc_session_id: u32,
    /// R\[M\].
    pub(crate) console_random: [u8; 16],
    /// R\[C\].
    pub(crate) bmc_random: [u8; 16],
    /// GUID\[C\].
    pub(crate) guid: [u8; 16],
    /// Role\[M\], the whole byte as RAKP 1 carried it.
    pub(crate) role: u8,
    pub(crate) user: Vec<u8>,
}

impl Exchange {
    /// RAKP 2's code: HMAC K\[UID\] (SIDM, SIDC, RM, RC, GUIDC, RoleM, ULengthM, UNameM).
    pub(crate) fn rakp2_code(&self, kuid: &Key20) -> Zeroizing<Vec<u8>> {
        crypto::hmac(self.suite, kuid.bytes(), &self.rakp2_parts().each_ref().map(Vec::as_slice))
    }

    pub(crate) fn verify_rakp2(&self, kuid: &Key20, code: &[u8]) -> bool {
        let parts = self.rakp2_parts();
        let parts = parts.each_ref().map(Vec::as_slice);
        crypto::verify(self.suite, kuid.bytes(), &parts, self.suite.digest_len(), code)
    }

    /// RAKP 3's code: HMAC K\[UID\] (RC, SIDM, RoleM, ULengthM, UNameM).
    pub(crate) fn rakp3_code(&self, kuid: &Key20) -> Zeroizing<Vec<u8>> {
        crypto::hmac(self.suite, kuid.bytes(), &self.rakp3_parts().each_ref().map(Vec::as_slice))
    }

    pub(crate) fn verify_rakp3(&self, kuid: &Key20, code: &[u8]) -> bool {
        let parts = self.rakp3_parts();
        let parts = parts.each_ref().map(Vec::as_slice);
        crypto::verify(self.suite, kuid.bytes(), &parts, self.suite.digest_len(), code)
    }

    /// The session integrity key: HMAC K\[G\] (RM, RC, RoleM, ULengthM, UNameM), with K\[UID\] in the
    /// place of K\[G\] where no K\[G\] is set (§13.31).
    pub(crate) fn sik(&self, kg: &Key20) -> Zeroizing<Vec<u8>> {
        let parts: [&[u8]; 4] =
            [&self.console_random, &self.bmc_random, &[self.role, name_length(&self.user)], &self.user];
        crypto::hmac(self.suite, kg.bytes(), &parts)
    }

    /// RAKP 4's check value: HMAC SIK (RM, SIDC, GUIDC), truncated.
    pub(crate) fn rakp4_check(&self, sik: &[u8]) -> Vec<u8> {
        let mut check = crypto::hmac(
            self.suite,
            sik,
            &[&self.console_random, &self.bmc_session_id.to_le_bytes(), &self.guid],
        );
        check.truncate(self.suite.mac_len());
        check.to_vec()
    }

    pub(crate) fn verify_rakp4(&self, sik: &[u8], check: &[u8]) -> bool {
        let session_id = self.bmc_session_id.to_le_bytes();
        let parts: [&[u8]; 3] = [&self.console_random, &session_id, &self.guid];
        crypto::verify(self.suite, sik, &parts, self.suite.mac_len(), check)
    }

    pub(crate) fn session_keys(&self, sik: &[u8]) -> SessionKeys {
        SessionKeys::derive(self.suite, sik)
    }

    fn rakp2_parts(&self) -> [Vec<u8>; 7] {
        [
            self.console_session_id.to_le_bytes().to_vec(),
            self.bmc_session_id.to_le_bytes().to_vec(),
            self.console_random.to_vec(),
            self.bmc_random.to_vec(),
            self.guid.to_vec(),
            vec![self.role, name_length(&self.user)],
            self.user.clone(),
        ]
    }

    fn rakp3_parts(&self) -> [Vec<u8>; 4] {
        [
            self.bmc_random.to_vec(),
            self.console_session_id.to_le_bytes().to_vec(),
            vec![self.role, name_length(&self.user)],
            self.user.clone(),
        ]
    }
}
