//! Where images come from: the images service, or in tests something worse.

use farrier_proto::images::image_service_client::ImageServiceClient;
use farrier_proto::images::{GetManifestRequest, ReadChunksRequest, ReadChunksResponse};
use farrier_proto::types::ChunkManifest;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tonic::Status;
use tonic::transport::Channel;

/// Pieces of chunks, in order.
pub(super) type Pieces = BoxStream<'static, Result<ReadChunksResponse, Status>>;

#[async_trait::async_trait]
pub(super) trait Origin: Send + Sync {
    async fn manifest(&self, image: &str, digest: &str) -> Result<ChunkManifest, Status>;

    /// Those of the chunks from `first` to before `first + count` that are not empty.
    async fn chunks(&self, digest: &str, first: usize, count: usize) -> Result<Pieces, Status>;
}

/// The images service.
pub(super) struct Centre(ImageServiceClient<Channel>);

impl Centre {
    pub(super) fn new(channel: Channel) -> Self {
        Self(ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
    }
}

#[async_trait::async_trait]
impl Origin for Centre {
    async fn manifest(&self, image: &str, digest: &str) -> Result<ChunkManifest, Status> {
        let request = GetManifestRequest { name: image.to_owned(), manifest_sha256: digest.to_owned() };
        Ok(self.0.clone().get_manifest(request).await?.into_inner())
    }

    async fn chunks(&self, digest: &str, first: usize, count: usize) -> Result<Pieces, Status> {
        let number = |n| i64::try_from(n).map_err(|_| Status::internal("a chunk's number is too large"));
        let request = ReadChunksRequest {
            manifest_sha256: digest.to_owned(),
            first_chunk: number(first)?,
            chunk_count: number(count)?,
        };
        Ok(self.0.clone().read_chunks(request).await?.into_inner().boxed())
    }
}

/// A manifest of a large disk is the largest message.
const MAX_MESSAGE: usize = 16 << 20;
