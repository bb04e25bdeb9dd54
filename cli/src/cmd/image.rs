//! `farrier image …`

use super::Session;
use crate::args::{EtagArg, ListArgs};
use crate::client::{Link, request_id};
use crate::failure::Failure;
use crate::names::full;
use crate::progress::upload_bar;
use crate::upload::{self, ReadError};
use crate::{call, list};
use clap::{Subcommand, ValueEnum};
use farrier_model::Collection::Images;
use farrier_proto::images::image_service_client::ImageServiceClient;
use farrier_proto::images::upload_image_request::Header;
use farrier_proto::images::{
    Compression, DeleteImageRequest, GetImageRequest, Image, ImageFormat, ListImagesRequest,
};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Uploads a file; the service verifies it before it looks into it.
    Import(ImportArgs),
    /// Shows one image.
    Get {
        /// The image, by its name.
        name: String,
    },
    /// Lists images.
    List(ListArgs),
    /// Removes an image that no instance needs.
    Delete {
        /// The image, by its name.
        name: String,
        #[command(flatten)]
        etag: EtagArg,
    },
}

#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The image, by its name.
    name: String,
    /// The image, as it was published.
    #[arg(long)]
    file: PathBuf,
    /// SHA-256 of the file: the publisher lists it, `sha256sum FILE` computes it.
    #[arg(long, value_name = "HEX", value_parser = upload::sha256)]
    sha256: String,
    /// Seen from the file and its name when left out.
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Seen from the file when left out.
    #[arg(long, value_enum)]
    compression: Option<CompressionArg>,
    /// `x86_64` or `aarch64`; any when left out.
    #[arg(long)]
    arch: Option<String>,
    /// Text for people.
    #[arg(long)]
    description: Option<String>,
    /// Project that owns it; everybody's when left out.
    #[arg(long, value_name = "PROJECT")]
    owner: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    Raw,
    Qcow2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompressionArg {
    None,
    Zstd,
    Gzip,
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.images()?;
    match verb {
        Verb::Import(args) => session.printer.one(&import(&link, args).await?),
        Verb::Get { name } => {
            let name = full(Images, &name)?;
            session.printer.one(&call!(link, ImageServiceClient, get_image, GetImageRequest { name })?)
        }
        Verb::List(args) => {
            let filter = args.filter_with([]);
            let images = list!(
                link,
                ImageServiceClient,
                list_images,
                ListImagesRequest {},
                images,
                args.limit,
                filter
            )?;
            session.printer.list(&images)
        }
        Verb::Delete { name, etag } => {
            let name = full(Images, &name)?;
            session.confirm(&format!("{name} will be deleted"))?;
            let request = DeleteImageRequest { name: name.clone(), etag: etag.etag.unwrap_or_default() };
            call!(link, ImageServiceClient, delete_image, request)?;
            session.say(&format!("{name} deleted"));
            Ok(())
        }
    }
}

async fn import(link: &Link, args: ImportArgs) -> Result<Image, Failure> {
    let (head, size) = upload::look(&args.file).await?;
    let (format, compression) = match (args.format, args.compression) {
        (Some(format), Some(compression)) => (format.into(), compression.into()),
        (format, compression) => {
            let seen = upload::guess(&args.file.to_string_lossy(), &head)?;
            (format.map_or(seen.0, Into::into), compression.map_or(seen.1, Into::into))
        }
    };
    let image = Image {
        name: full(Images, &args.name)?,
        description: args.description.unwrap_or_default(),
        sha256: args.sha256,
        format: format.into(),
        compression: compression.into(),
        architecture: args.arch.unwrap_or_default(),
        owner: args.owner.unwrap_or_default(),
        ..Image::default()
    };
    let header = Header {
        image: Some(image),
        file_bytes: i64::try_from(size).unwrap_or(i64::MAX),
        request_id: request_id(),
        ..Header::default()
    };
    let file =
        tokio::fs::File::open(&args.file).await.map_err(|error| Failure::file(&args.file, "read", &error))?;
    let bar = upload_bar(&args.name, size);
    let error = ReadError::default();
    // No deadline: how long an upload takes is the line's business. A dead server ends it by keepalive.
    let answer = ImageServiceClient::new(link.channel.clone())
        .upload_image(upload::messages(header, file, bar.clone(), error.clone()))
        .await;
    bar.finish_and_clear();
    match (answer, error.take()) {
        (_, Some(cause)) => Err(Failure::refused(format!("cannot read {}: {cause}", args.file.display()))),
        (Ok(answer), None) => Ok(answer.into_inner()),
        (Err(status), None) => Err(link.failed(&status)),
    }
}

impl From<FormatArg> for ImageFormat {
    fn from(arg: FormatArg) -> Self {
        match arg {
            FormatArg::Raw => ImageFormat::Raw,
            FormatArg::Qcow2 => ImageFormat::Qcow2,
        }
    }
}

impl From<CompressionArg> for Compression {
    fn from(arg: CompressionArg) -> Self {
        match arg {
            CompressionArg::None => Compression::None,
            CompressionArg::Zstd => Compression::Zstd,
            CompressionArg::Gzip => Compression::Gzip,
        }
    }
}
