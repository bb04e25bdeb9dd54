use super::{App, check, new_operation, request_key, store_error};
use crate::engine::{placement, seal};
use farrier_model::Collection;
use farrier_proto::images::GetImageRequest;
use farrier_proto::inventory::{GetFlavorRequest, GetNodeRequest, GetRackRequest, GetSiteRequest};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Clean, Deploy, TaskSpec};
use farrier_proto::scheduler::{
    CreateInstanceRequest, DeleteInstanceRequest, Instance, InstanceState, ListInstancesRequest,
    ListInstancesResponse, Operation, OperationPhase, OperationType,
};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, asked, internal, invalid, not_found, refuse, stale_etag};
use farrier_runtime::filter;
use farrier_runtime::page::Page;
use farrier_runtime::time::now;
use farrier_scheduler_store::{InstanceFilter, NewOperation};
use tonic::{Code, Status};

impl App {
    pub(crate) async fn create(
        &self,
        caller: &Caller,
        request: CreateInstanceRequest,
    ) -> Result<Operation, Status> {
        let key = request_key(caller, &request.request_id, &request);
        if let Some(before) = self.answered(&key).await? {
            return Ok(before);
        }
        let given = request.instance.ok_or_else(|| invalid("instance", "expected what to make"))?;
        let mut instance = check::instance(given)?;
        // An operator may make instances for a project; everybody else only for their own.
        if instance.owner.is_empty() {
            instance.owner = caller.project().to_owned();
        } else if !caller.sees_all_projects() && instance.owner != caller.project() {
            return Err(invalid("instance.owner", "expected your own project"));
        }
        let flavor = self
            .clients
            .flavors
            .clone()
            .get_flavor(GetFlavorRequest { name: instance.flavor.clone() })
            .await
            .map_err(|s| foreign("instance.flavor", &instance.flavor, s))?
            .into_inner();
        let image = self
            .clients
            .images
            .clone()
            .get_image(GetImageRequest { name: instance.image.clone() })
            .await
            .map_err(|s| foreign("instance.image", &instance.image, s))?
            .into_inner();
        if !image.owner.is_empty() && image.owner != instance.owner {
            return Err(not_found(&instance.image));
        }
        self.check_place(caller, &instance).await?;
        let work = Work::Deploy(Deploy {
            image: instance.image.clone(),
            // Pinned now: an image that is replaced later does not change what was asked for.
            manifest_sha256: image.manifest_sha256.clone(),
            instance: instance.name.clone(),
            hostname: instance.hostname.clone(),
            ssh_keys: instance.ssh_keys.clone(),
            // Only here, and from here sealed: nothing reads it back.
            user_data: std::mem::take(&mut instance.user_data),
            network: instance.network.clone(),
            ready: instance.ready,
            ready_seconds: instance.ready_seconds,
            method: instance.method,
            volume_bytes: flavor.disk_bytes,
            root_disk_bytes: placement::root_disk_bytes(&flavor, &image),
            recovery: None,
        });
        let mut row = new_operation(
            caller,
            OperationType::Deploy,
            &instance.name,
            "",
            TaskSpec { machine: None, work: Some(work) },
        );
        row.owner.clone_from(&instance.owner);
        seal(&self.vault, &mut row).map_err(internal)?;
        if request.validate_only {
            let demand = placement::demand(&instance, &flavor, &image);
            let placed = self.engine.placement(&demand, &instance.network).await;
            let placed = placed.map_err(|s| asked("inventory", s))?;
            return match placed.fits.first() {
                Some(node) => {
                    row.operation.name = String::new();
                    row.operation.node.clone_from(node);
                    Ok(row.operation)
                }
                None => Err(placement::no_node_fits(&placed)),
            };
        }
        instance.uid = uuid::Uuid::now_v7().to_string();
        instance.set_state(InstanceState::Pending);
        instance.operation.clone_from(&row.operation.name);
        instance.create_time = Some(now());
        instance.update_time = Some(now());
        instance.placed_node.clear();
        instance.addresses.clear();
        instance.last_error.clear();
        let stored = self
            .store
            .create(NewOperation { row, request: key, create: Some(instance) })
            .await
            .map_err(store_error)?;
        self.engine.nudge();
        Ok(stored)
    }

    /// Where it is to go must be: on what does not exist nothing is ever placed.
    async fn check_place(&self, caller: &Caller, instance: &Instance) -> Result<(), Status> {
        if !instance.site.is_empty() {
            let request = GetSiteRequest { name: instance.site.clone() };
            let site = self.clients.sites.clone().get_site(request).await;
            site.map_err(|s| foreign("instance.site", &instance.site, s))?;
        }
        if !instance.rack.is_empty() {
            let request = GetRackRequest { name: instance.rack.clone() };
            let rack = self.clients.racks.clone().get_rack(request).await;
            rack.map_err(|s| foreign("instance.rack", &instance.rack, s))?;
        }
        if !instance.node.is_empty() {
            let request = GetNodeRequest { name: instance.node.clone() };
            let node = self.clients.nodes.clone().get_node(request).await;
            let node = node.map_err(|s| foreign("instance.node", &instance.node, s))?.into_inner();
            if !caller.sees(&node.owner) {
                return Err(foreign("instance.node", &instance.node, not_found(&instance.node)));
            }
        }
        Ok(())
    }

    pub(crate) async fn instance(&self, caller: &Caller, name: &str) -> Result<Instance, Status> {
        let instance = self.store.instance(name).await.map_err(store_error)?;
        if !caller.sees(&instance.owner) {
            return Err(not_found(name));
        }
        Ok(shown(instance))
    }

    /// An instance that the caller may change.
    pub(super) async fn own_instance(&self, caller: &Caller, name: &str) -> Result<Instance, Status> {
        let instance = self.instance(caller, name).await?;
        if !caller.sees_all_projects() && instance.owner != caller.project() {
            return Err(refuse(
                Code::PermissionDenied,
                Reason::NotAllowed,
                format!("{} is not yours", instance.name),
            ));
        }
        Ok(instance)
    }

    pub(crate) async fn instances(
        &self,
        caller: &Caller,
        request: ListInstancesRequest,
    ) -> Result<ListInstancesResponse, Status> {
        let page = Page::parse(request.page_size, &request.page_token)?;
        let mut wanted = InstanceFilter::default();
        for term in filter::parse(&request.filter, &["state", "placed_node", "owner"])? {
            match term.field.as_str() {
                "state" => wanted.state = Some(state(&term.value)?),
                "placed_node" => wanted.placed_node = Some(Collection::Nodes.whole(term.value)),
                _ => wanted.owner = Some(term.value),
            }
        }
        if !caller.sees_all_projects() {
            wanted.visible_to = Some(caller.project().to_owned());
        }
        let limit = u64::try_from(page.size + 1).unwrap_or(1001);
        let rows = self.store.instances(&wanted, page.after.as_deref(), limit).await.map_err(store_error)?;
        let (rows, next_page_token) = page.finish(rows, |i| i.name.clone());
        Ok(ListInstancesResponse { instances: rows.into_iter().map(shown).collect(), next_page_token })
    }

    pub(crate) async fn delete(
        &self,
        caller: &Caller,
        request: DeleteInstanceRequest,
    ) -> Result<Operation, Status> {
        let key = request_key(caller, &request.request_id, &request);
        if let Some(before) = self.answered(&key).await? {
            return Ok(before);
        }
        let instance = self.own_instance(caller, &request.name).await?;
        if !request.etag.is_empty() && request.etag != instance.etag {
            return Err(stale_etag(&instance.name, Some((&request.etag, &instance.etag))));
        }
        // Asking twice is one request.
        let current = self.store.operation(&instance.operation).await.map_err(store_error)?;
        if current.operation.r#type() == OperationType::Undeploy && !current.operation.done {
            self.remember(key, &current.operation.name).await?;
            return Ok(current.operation);
        }
        let work = TaskSpec { machine: None, work: Some(Work::Clean(Clean { full: false })) };
        let mut row =
            new_operation(caller, OperationType::Undeploy, &instance.name, &instance.placed_node, work);
        row.owner.clone_from(&instance.owner);
        let stored =
            self.store.create(NewOperation { row, request: key, create: None }).await.map_err(store_error)?;
        if !current.operation.done && current.operation.phase() != OperationPhase::Done {
            // What is still being deployed is stopped first; the undeployment waits for it.
            let reason = format!("{} takes the instance away", stored.name);
            self.engine.cancel(&current.operation.name, &reason).await.map_err(store_error)?;
        }
        self.engine.nudge();
        Ok(stored)
    }
}

/// User data may hold secrets: write only.
fn shown(mut instance: Instance) -> Instance {
    instance.user_data.clear();
    instance
}

fn state(text: &str) -> Result<i32, Status> {
    let name = format!("INSTANCE_STATE_{}", text.to_ascii_uppercase().replace([' ', '-'], "_"));
    InstanceState::from_str_name(&name)
        .or_else(|| InstanceState::from_str_name(text))
        .map(Into::into)
        .ok_or_else(|| {
            refuse(
                Code::InvalidArgument,
                Reason::InvalidFilter,
                format!(
                    "filter: no instance state {text:?}; expected pending, deploying, active, failed, deleting or \
                     deleted"
                ),
            )
        })
}

/// Another service's refusal, in terms of the field that named the thing.
fn foreign(field: &str, named: &str, status: Status) -> Status {
    match status.code() {
        Code::NotFound | Code::PermissionDenied => {
            let list = match field {
                "instance.flavor" => "`farrier flavor list`",
                "instance.image" => "`farrier image list`",
                "instance.site" => "`farrier site list`",
                "instance.rack" => "`farrier rack list`",
                _ => "`farrier node list`",
            };
            invalid(field, format!("expected one that exists, saw {named}; see {list}"))
        }
        _ => asked(&format!("what knows {field}"), status),
    }
}
