//! Images.

use super::value::{age, cell, time};
use super::{Column, Resource, column, wide};
use crate::enum_word;
use crate::names::short;
use farrier_model::size::human;
use farrier_proto::images::{Compression, Image, ImageFormat};
use serde_json::{Value, json};

impl Resource for Image {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |i, _| short(&i.name).to_owned()),
            column("FORMAT", |i, _| cell(&enum_word!(ImageFormat, "IMAGE_FORMAT", i.format))),
            column("ARCH", |i, _| i.architecture.clone()),
            column("DISK", |i, _| human(i.disk_bytes)),
            column("STORED", |i, _| human(i.stored_bytes)),
            column("SHA256", |i, _| i.sha256.chars().take(12).collect()),
            column("AGE", |i, now| age(&i.create_time, now)),
            wide("COMPRESSION", |i, _| cell(&enum_word!(Compression, "COMPRESSION", i.compression))),
            wide("FILE", |i, _| human(i.file_bytes)),
            wide("OWNER", |i, _| i.owner.clone()),
            wide("DESCRIPTION", |i, _| i.description.clone()),
            wide("USED BY", |i, _| i.used_by.iter().map(|name| short(name)).collect::<Vec<_>>().join(" ")),
            wide("MANIFEST", |i, _| i.manifest_sha256.clone()),
        ]
    }

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "uid": self.uid,
            "description": self.description,
            "sha256": self.sha256,
            "format": enum_word!(ImageFormat, "IMAGE_FORMAT", self.format),
            "compression": enum_word!(Compression, "COMPRESSION", self.compression),
            "architecture": self.architecture,
            "owner": self.owner,
            "disk_bytes": self.disk_bytes,
            "stored_bytes": self.stored_bytes,
            "file_bytes": self.file_bytes,
            "manifest_sha256": self.manifest_sha256,
            "used_by": self.used_by,
            "etag": self.etag,
            "create_time": time(&self.create_time),
        })
    }
}
