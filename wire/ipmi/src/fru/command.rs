//! Get FRU Inventory Area Info (§34.1) and Read FRU Data (§34.2).

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use crate::command::ResponseError;

/// Asks how large an inventory is. Device 0 is the machine the BMC belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetFruArea(pub u8);

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FruArea {
    /// Bytes there are.
    pub bytes: u16,
    /// Offset and count of a read are in words of two bytes.
    pub by_words: bool,
}

/// Asks for a piece; offset and count in the unit that [`FruArea`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadFru {
    /// The device.
    pub device: u8,
    /// Where it begins.
    pub offset: u16,
    /// How much at most. A BMC may give less, or refuse what does not fit into its answer.
    pub count: u8,
}

impl From<GetFruArea> for Message {
    fn from(GetFruArea(device): GetFruArea) -> Self {
        Self::new_request(NetFn::Storage, 0x10, vec![device])
    }
}

impl IpmiCommand for GetFruArea {
    type Output = FruArea;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<FruArea, ResponseError> {
        let [low, high, access, ..] = data else {
            return Err(ResponseError::TooShort { expected: 3, seen: data.len() });
        };
        Ok(FruArea { bytes: u16::from_le_bytes([*low, *high]), by_words: access & 0x01 != 0 })
    }
}

impl From<ReadFru> for Message {
    fn from(ReadFru { device, offset, count }: ReadFru) -> Self {
        let [low, high] = offset.to_le_bytes();
        Self::new_request(NetFn::Storage, 0x11, vec![device, low, high, count])
    }
}

impl IpmiCommand for ReadFru {
    /// The bytes, as many as came and were counted. None at all: there is no more.
    type Output = Vec<u8>;
    type Error = ResponseError;

    /// The count is in the unit of the request, which an answer does not tell; so it is not compared with the bytes.
    fn parse_success_response(data: &[u8]) -> Result<Vec<u8>, ResponseError> {
        let (count, bytes) =
            data.split_first().ok_or(ResponseError::TooShort { expected: 1, seen: data.len() })?;
        if bytes.len() < usize::from(*count) {
            return Err(ResponseError::TooShort { expected: 1 + usize::from(*count), seen: data.len() });
        }
        Ok(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_is_asked_for_and_short_answers_are_refused() {
        let message: Message = ReadFru { device: 0, offset: 0x0102, count: 16 }.into();
        assert_eq!((message.netfn_raw(), message.cmd()), (0x0A, 0x11));
        assert_eq!(message.data(), [0, 0x02, 0x01, 16]);
        let area = GetFruArea::parse_success_response(&[0x00, 0x01, 0x01]).unwrap();
        assert_eq!(area, FruArea { bytes: 256, by_words: true });
        assert!(GetFruArea::parse_success_response(&[0, 1]).is_err());
        assert_eq!(ReadFru::parse_success_response(&[2, 7, 8]).unwrap(), [7, 8]);
        assert!(ReadFru::parse_success_response(&[3, 7, 8]).is_err());
        assert!(ReadFru::parse_success_response(&[]).is_err());
    }
}
