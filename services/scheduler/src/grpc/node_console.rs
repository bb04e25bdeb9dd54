use crate::app::App;
use farrier_proto::rack::{ConsoleLogPage, ConsoleOutput};
use farrier_proto::scheduler::node_console_service_server::NodeConsoleService;
use farrier_proto::scheduler::{AttachNodeConsoleRequest, ReadNodeConsoleLogRequest};
use farrier_runtime::authz::Caller;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl NodeConsoleService for App {
    type AttachNodeConsoleStream = ReceiverStream<Result<ConsoleOutput, Status>>;

    async fn attach_node_console(
        &self,
        request: Request<Streaming<AttachNodeConsoleRequest>>,
    ) -> Result<Response<Self::AttachNodeConsoleStream>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.attach_console(&caller, request.into_inner()).await?))
    }

    type ReadNodeConsoleLogStream = ReceiverStream<Result<ConsoleLogPage, Status>>;

    async fn read_node_console_log(
        &self,
        request: Request<ReadNodeConsoleLogRequest>,
    ) -> Result<Response<Self::ReadNodeConsoleLogStream>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.read_console_log(&caller, request.into_inner()).await?))
    }
}
