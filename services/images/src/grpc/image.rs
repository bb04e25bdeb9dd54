//! ImageService.

use super::status::status;
use super::upload;
use crate::app::reader::ChunkReader;
use crate::app::{AppError, Begun, Images};
use farrier_images_store::{Filter, Holder};
use farrier_model::{Collection, parse_name};
use farrier_proto::images::image_service_server::ImageService;
use farrier_proto::images::{
    DeleteImageRequest, DropHoldRequest, DropHoldResponse, GetImageRequest, GetManifestRequest,
    HoldImageRequest, HoldImageResponse, Image, ListImagesRequest, ListImagesResponse, ReadChunksRequest,
    ReadChunksResponse, ReleaseImageRequest, ReleaseImageResponse, ReserveImageRequest, ReserveImageResponse,
    UploadImageRequest,
};
use farrier_proto::types::ChunkManifest;
use farrier_runtime::authz::Caller;
use farrier_runtime::error::invalid;
use farrier_runtime::filter;
use farrier_runtime::page::Page;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// The service, as tonic calls it.
#[derive(Debug)]
pub(crate) struct Service {
    images: Images,
    shutdown: CancellationToken,
}

impl Service {
    pub(crate) fn new(images: Images, shutdown: CancellationToken) -> Self {
        Self { images, shutdown }
    }
}

#[async_trait]
impl ImageService for Service {
    async fn upload_image(
        &self,
        request: Request<Streaming<UploadImageRequest>>,
    ) -> Result<Response<Image>, Status> {
        let caller = Caller::of(&request);
        let mut stream = request.into_inner();
        let header = upload::header(&mut stream).await?;
        let reservation = self.images.reservation_of(&caller, &header).await.map_err(status)?;
        let wanted = upload::wanted(&self.images, &caller, header, reservation).map_err(status)?;
        let (begun, pieces) = self.images.begin(wanted).await.map_err(status)?;
        match begun {
            Begun::Done(image) => Ok(Response::new(*image)),
            Begun::Receiving(receiving) => {
                upload::pump(&mut stream, pieces, &self.shutdown).await?;
                Ok(Response::new(receiving.finish().await.map_err(status)?))
            }
        }
    }

    async fn get_image(&self, request: Request<GetImageRequest>) -> Result<Response<Image>, Status> {
        let caller = Caller::of(&request);
        let name = named(&request.get_ref().name)?;
        Ok(Response::new(self.images.image(&caller, name).await.map_err(status)?))
    }

    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let page = Page::parse(request.page_size, &request.page_token)?;
        let filter = filter(&request.filter)?;
        if let Some(after) = &page.after {
            parse_name(Collection::Images, after).map_err(|e| invalid("page_token", e))?;
        }
        let listed =
            self.images.list(&caller, filter, page.after.as_deref(), page.size.saturating_add(1)).await;
        let (images, next_page_token) = page.finish(listed.map_err(status)?, |image| image.name.clone());
        Ok(Response::new(ListImagesResponse { images, next_page_token }))
    }

    async fn delete_image(&self, request: Request<DeleteImageRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request);
        let DeleteImageRequest { name, etag } = request.into_inner();
        self.images.delete(&caller, named(&name)?, &etag).await.map_err(status)?;
        Ok(Response::new(()))
    }

    async fn reserve_image(
        &self,
        request: Request<ReserveImageRequest>,
    ) -> Result<Response<ReserveImageResponse>, Status> {
        let ReserveImageRequest { image, rack, operation } = request.into_inner();
        let image = image.ok_or_else(|| invalid("image", "expected what will be uploaded"))?;
        named(&image.name)?;
        upload::described(&image, ["image.architecture", "image.description"]).map_err(status)?;
        parse_name(Collection::Racks, &rack).map_err(|e| invalid("rack", e))?;
        parse_name(Collection::Operations, &operation).map_err(|e| invalid("operation", e))?;
        self.images.reserve(image, rack, operation).await.map_err(status)?;
        let max_bytes = i64::try_from(self.images.max_bytes()).unwrap_or(i64::MAX);
        Ok(Response::new(ReserveImageResponse { max_bytes }))
    }

    async fn release_image(
        &self,
        request: Request<ReleaseImageRequest>,
    ) -> Result<Response<ReleaseImageResponse>, Status> {
        let ReleaseImageRequest { name, operation } = request.into_inner();
        parse_name(Collection::Operations, &operation).map_err(|e| invalid("operation", e))?;
        let image = self.images.release(named(&name)?, &operation).await.map_err(status)?;
        Ok(Response::new(ReleaseImageResponse { image }))
    }

    async fn hold_image(
        &self,
        request: Request<HoldImageRequest>,
    ) -> Result<Response<HoldImageResponse>, Status> {
        let HoldImageRequest { name, manifest_sha256, instance, owner } = request.into_inner();
        parse_name(Collection::Instances, &instance).map_err(|e| invalid("instance", e))?;
        let holder = Holder { instance, owner };
        self.images.hold(named(&name)?, &manifest_sha256, holder).await.map_err(status)?;
        Ok(Response::new(HoldImageResponse {}))
    }

    async fn drop_hold(
        &self,
        request: Request<DropHoldRequest>,
    ) -> Result<Response<DropHoldResponse>, Status> {
        let DropHoldRequest { instance } = request.into_inner();
        parse_name(Collection::Instances, &instance).map_err(|e| invalid("instance", e))?;
        self.images.drop_hold(&instance).await.map_err(status)?;
        Ok(Response::new(DropHoldResponse {}))
    }

    async fn get_manifest(
        &self,
        request: Request<GetManifestRequest>,
    ) -> Result<Response<ChunkManifest>, Status> {
        let caller = Caller::of(&request);
        let GetManifestRequest { name, manifest_sha256 } = request.into_inner();
        let found = self.images.manifest(&caller, named(&name)?, &manifest_sha256).await;
        Ok(Response::new(found.map_err(status)?))
    }

    type ReadChunksStream = BoxStream<'static, Result<ReadChunksResponse, Status>>;

    async fn read_chunks(
        &self,
        request: Request<ReadChunksRequest>,
    ) -> Result<Response<Self::ReadChunksStream>, Status> {
        let ReadChunksRequest { manifest_sha256, first_chunk, chunk_count } = request.into_inner();
        let number = |field, n| u64::try_from(n).map_err(|_| invalid(field, "expected 0 or more"));
        let first = number("first_chunk", first_chunk)?;
        let end = match number("chunk_count", chunk_count)? {
            0 => u64::MAX,
            count => first.saturating_add(count),
        };
        let reader = self.images.reader(&manifest_sha256, first..end).await.map_err(status)?;
        Ok(Response::new(pieces(reader, self.shutdown.clone())))
    }
}

/// Reads a piece when the connection has room for it, not before.
fn pieces(
    reader: ChunkReader,
    shutdown: CancellationToken,
) -> BoxStream<'static, Result<ReadChunksResponse, Status>> {
    stream::unfold(Some((reader, shutdown)), |state| async {
        let (mut reader, shutdown) = state?;
        if shutdown.is_cancelled() {
            // An error, not an end: the reader resumes elsewhere or later.
            return Some((Err(status(AppError::ShuttingDown)), None));
        }
        match reader.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some((reader, shutdown)))),
            Ok(None) => None,
            Err(error) => Some((Err(status(error)), None)),
        }
    })
    .boxed()
}

fn named(name: &str) -> Result<&str, Status> {
    parse_name(Collection::Images, name).map_err(|error| invalid("name", error))?;
    Ok(name)
}

fn filter(text: &str) -> Result<Filter, Status> {
    let mut wanted = Filter::default();
    for term in filter::parse(text, FILTERS)? {
        let slot = match term.field.as_str() {
            "name" => &mut wanted.name,
            "owner" => &mut wanted.owner,
            "sha256" => &mut wanted.sha256,
            _ => &mut wanted.architecture,
        };
        if slot.as_ref().is_some_and(|before| *before != term.value) {
            return Err(invalid("filter", format!("{} cannot have two values", term.field)));
        }
        *slot = Some(term.value);
    }
    Ok(wanted)
}

const FILTERS: &[&str] = &["name", "owner", "sha256", "architecture"];
