//! UploadImage: the header as a wish that was checked, and the bytes after it.

use crate::app::{AppError, Images, Wanted};
use crate::disks::is_digest;
use crate::import::Declared;
use crate::import::receive::Promise;
use farrier_images_store::Reservation;
use farrier_model::{Collection, parse_name};
use farrier_proto::images::upload_image_request::{Header, Part};
use farrier_proto::images::{Compression, Image, ImageFormat, UploadImageRequest};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, invalid, refuse_with};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

/// Checks a header. What a reservation says wins over it.
pub(super) fn wanted(
    images: &Images,
    caller: &Caller,
    header: Header,
    reservation: Option<Reservation>,
) -> Result<Wanted, AppError> {
    let bad = |field, expected: &str| Err(AppError::Invalid { field, expected: expected.to_owned() });
    let Some(mut image) = header.image else {
        return bad("header.image", "expected an image");
    };
    if let Err(error) = parse_name(Collection::Images, &image.name) {
        return bad("header.image.name", &error.to_string());
    }
    let sha256 = image.sha256.to_ascii_lowercase();
    if !is_digest(&sha256) {
        return bad("header.image.sha256", "expected the SHA-256 of the file, 64 hexadecimal digits");
    }
    let format = match ImageFormat::try_from(image.format) {
        Ok(format @ (ImageFormat::Raw | ImageFormat::Qcow2)) => format,
        Ok(ImageFormat::Changes) if reservation.is_some() => {
            if !is_digest(&header.base_manifest_sha256) {
                return bad("header.base_manifest_sha256", "expected the manifest of the disk below");
            }
            ImageFormat::Changes
        }
        _ => return bad("header.image.format", "expected RAW or QCOW2"),
    };
    let compression = match Compression::try_from(image.compression) {
        Ok(known @ (Compression::None | Compression::Zstd | Compression::Gzip)) => known,
        _ => return bad("header.image.compression", "expected NONE, ZSTD or GZIP"),
    };
    described(&image, ["header.image.architecture", "header.image.description"])?;
    if header.request_id.len() > REQUEST_ID_MAX {
        return bad("header.request_id", "expected at most 128 bytes");
    }
    let Some(file_bytes) = u64::try_from(header.file_bytes).ok().filter(|bytes| *bytes > 0) else {
        return bad("header.file_bytes", "expected the size of the file, in bytes");
    };
    if file_bytes > images.max_bytes() {
        return Err(crate::import::ImportError::TooLarge { limit: images.max_bytes() }.into());
    }
    let reserved = reservation.is_some();
    let owner = match reservation {
        Some(kept) => {
            (image.description, image.architecture) = (kept.description, kept.architecture);
            kept.owner
        }
        None => owner(caller, image.owner)?,
    };
    Ok(Wanted {
        image: Image {
            name: image.name,
            description: image.description,
            sha256: sha256.clone(),
            format: format.into(),
            compression: compression.into(),
            architecture: image.architecture,
            owner,
            file_bytes: header.file_bytes,
            ..Image::default()
        },
        promise: Promise { file_bytes, sha256 },
        declared: Declared {
            format,
            compression,
            max_bytes: images.max_bytes(),
            base: header.base_manifest_sha256,
        },
        request_id: header.request_id,
        reserved,
        actor: caller.actor(),
    })
}

/// Checks what an image is said to be; `fields`: what to call its architecture and description.
pub(super) fn described(image: &Image, fields: [&'static str; 2]) -> Result<(), AppError> {
    let [architecture, description] = fields;
    let bad = |field, expected: &str| Err(AppError::Invalid { field, expected: expected.to_owned() });
    if !ARCHITECTURES.contains(&image.architecture.as_str()) {
        return bad(architecture, "expected x86_64, aarch64, or nothing for any");
    }
    if image.description.len() > DESCRIPTION_MAX {
        return bad(description, "expected at most 1024 bytes");
    }
    Ok(())
}

/// Members upload for their project; operators for any, and for everybody.
fn owner(caller: &Caller, asked: String) -> Result<String, AppError> {
    if caller.sees_all_projects() {
        return Ok(asked);
    }
    let project = caller.project();
    if project.is_empty() {
        return Err(AppError::NotAllowed("a user without a project has nowhere to put an image".to_owned()));
    }
    if !asked.is_empty() && asked != project {
        return Err(AppError::Invalid {
            field: "header.image.owner",
            expected: format!("expected {project:?}, your project, or nothing"),
        });
    }
    Ok(project.to_owned())
}

/// The first message.
pub(super) async fn header(stream: &mut Streaming<UploadImageRequest>) -> Result<Header, Status> {
    match next(stream).await? {
        Some(UploadImageRequest { part: Some(Part::Header(header)) }) => Ok(header),
        _ => Err(invalid("header", "expected as the first message")),
    }
}

/// Hands the bytes on until they end, or until nobody wants more: then `Receiving::finish` says why.
pub(super) async fn pump(
    stream: &mut Streaming<UploadImageRequest>,
    pieces: mpsc::Sender<Vec<u8>>,
    shutdown: &CancellationToken,
) -> Result<(), Status> {
    loop {
        let message = tokio::select! {
            message = next(stream) => message?,
            () = shutdown.cancelled() => return Err(super::status::status(AppError::ShuttingDown)),
        };
        let Some(message) = message else { return Ok(()) };
        let data = match message.part {
            Some(Part::Data(data)) => data,
            Some(Part::Header(_)) => return Err(invalid("header", "expected once")),
            None => continue,
        };
        if data.len() > PIECE_MAX {
            return Err(invalid("data", "expected at most 1 MiB in a message"));
        }
        if pieces.send(data).await.is_err() {
            return Ok(());
        }
    }
}

async fn next(stream: &mut Streaming<UploadImageRequest>) -> Result<Option<UploadImageRequest>, Status> {
    tokio::time::timeout(STALL, stream.message()).await.unwrap_or_else(|_| {
        let facts = [("seconds", STALL.as_secs().to_string())];
        Err(refuse_with(Code::DeadlineExceeded, Reason::Truncated, "no bytes came for too long", facts))
    })
}

/// An uploader that is silent for this long holds a turn that another could have.
const STALL: Duration = Duration::from_secs(60);
/// As the contract has it.
const PIECE_MAX: usize = 1 << 20;
const DESCRIPTION_MAX: usize = 1024;
const REQUEST_ID_MAX: usize = 128;
const ARCHITECTURES: [&str; 3] = ["", "x86_64", "aarch64"];
