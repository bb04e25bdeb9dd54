//! The three areas a person asks for (FRU §10 to §12).

use super::text::{Language, custom, field};
use crate::ParseError;
use crate::reader::Reader;

/// Chassis info area (FRU §10).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chassis {
    /// SMBIOS system enclosure type.
    pub kind: u8,
    /// Part number.
    pub part_number: String,
    /// Serial number.
    pub serial_number: String,
    /// What the maker added.
    pub custom: Vec<String>,
}

/// Board info area (FRU §11).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Board {
    /// When it was made, in Unix seconds.
    pub made: Option<u64>,
    /// Manufacturer.
    pub manufacturer: String,
    /// Product name.
    pub product: String,
    /// Serial number.
    pub serial_number: String,
    /// Part number.
    pub part_number: String,
    /// What the maker added.
    pub custom: Vec<String>,
}

/// Product info area (FRU §12).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Product {
    /// Manufacturer.
    pub manufacturer: String,
    /// Product name.
    pub name: String,
    /// Part or model number.
    pub part_number: String,
    /// Version.
    pub version: String,
    /// Serial number.
    pub serial_number: String,
    /// Asset tag.
    pub asset_tag: String,
    /// What the maker added.
    pub custom: Vec<String>,
}

impl Chassis {
    pub(super) fn parse(mut reader: Reader<'_>) -> Result<Self, ParseError> {
        let kind = reader.u8()?;
        // FRU §10: the chassis area is always English.
        let mut next = || field(&mut reader, Language::English);
        let (part_number, serial_number) = (next()?, next()?);
        Ok(Self { kind, part_number, serial_number, custom: custom(reader, Language::English)? })
    }
}

impl Board {
    pub(super) fn parse(mut reader: Reader<'_>) -> Result<Self, ParseError> {
        let language = Language::of(reader.u8()?);
        let [low, middle, high] = reader.array()?;
        let minutes = u32::from_le_bytes([low, middle, high, 0]);
        let mut next = || field(&mut reader, language);
        let (manufacturer, product, serial_number, part_number, _file) =
            (next()?, next()?, next()?, next()?, next()?);
        Ok(Self {
            made: (minutes != 0).then_some(EPOCH + u64::from(minutes) * 60),
            manufacturer,
            product,
            serial_number,
            part_number,
            custom: custom(reader, language)?,
        })
    }
}

impl Product {
    pub(super) fn parse(mut reader: Reader<'_>) -> Result<Self, ParseError> {
        let language = Language::of(reader.u8()?);
        let mut next = || field(&mut reader, language);
        let (manufacturer, name, part_number, version, serial_number, asset_tag, _file) =
            (next()?, next()?, next()?, next()?, next()?, next()?, next()?);
        Ok(Self {
            manufacturer,
            name,
            part_number,
            version,
            serial_number,
            asset_tag,
            custom: custom(reader, language)?,
        })
    }
}

/// FRU §11: minutes count from 1996-01-01 00:00.
const EPOCH: u64 = 820_454_400;
