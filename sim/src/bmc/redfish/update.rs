//! Firmware: what has some, and how it gets other (DSP0268 UpdateService, SoftwareInventory).

use serde_json::{Value, json};

use super::changes::bad;
use super::personality::{Personality, dress};
use super::resources::{View, collection, link};
use super::tasks::Work;

pub(super) const SERVICE: &str = "/redfish/v1/UpdateService";
const INVENTORY: &str = "/redfish/v1/UpdateService/FirmwareInventory";

/// Parts and their versions.
#[derive(Debug)]
pub(super) struct Parts(pub(super) Vec<(String, String)>);

impl Parts {
    pub(super) fn with(more: usize) -> Self {
        let part = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        let mut parts = vec![part("BMC", env!("CARGO_PKG_VERSION")), part("NIC", "1.2")];
        parts.extend((0..more).map(|n| part(&format!("PART{n}"), "1.0")));
        Self(parts)
    }

    pub(super) fn set(&mut self, id: &str, version: String) {
        if let Some((_, now)) = self.0.iter_mut().find(|(part, _)| part == id) {
            *now = version;
        }
    }
}

/// POST to UpdateService.SimpleUpdate: what is to be done. An image is named PART-VERSION.bin; what is named otherwise is
/// for another machine.
pub(super) fn simple(parts: &Parts, body: &Value) -> Result<Work, (hyper::StatusCode, Value)> {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let image = text("ImageURI").filter(|image| image.contains("://"));
    let image = image.ok_or_else(|| bad("ActionParameterMissing", "ImageURI is required"))?;
    if text("TransferProtocol").is_some_and(|protocol| !PROTOCOLS.contains(&protocol)) {
        return Err(bad("ActionParameterNotSupported", "TransferProtocol is none of those listed"));
    }
    let path = image.split('?').next().unwrap_or_default();
    let file = path.rsplit('/').next().and_then(|file| file.strip_suffix(".bin"));
    let Some((part, version)) = file.and_then(|file| file.split_once('-')) else { return Ok(Work::Nothing) };
    for target in body.get("Targets").and_then(Value::as_array).into_iter().flatten() {
        let id = target.as_str().and_then(|target| target.strip_prefix(INVENTORY)?.strip_prefix('/'));
        if !parts.0.iter().any(|(part, _)| Some(part.as_str()) == id) {
            return Err(bad("ActionParameterValueFormatError", "Targets names something that is not there"));
        }
        if id != Some(part) {
            return Ok(Work::Nothing);
        }
    }
    Ok(Work::Firmware { part: part.to_owned(), version: version.to_owned() })
}

/// POST of a form to [`PUSH`] (DSP0266 §14.4): what is to be done, and the file that came.
pub(super) fn push(
    parts: &Parts,
    content_type: &str,
    body: &[u8],
) -> Result<(Work, Pushed), (hyper::StatusCode, Value)> {
    let wrong = |words: &str| bad("MalformedForm", words);
    let boundary =
        content_type.strip_prefix("multipart/form-data;").and_then(|rest| rest.split_once("boundary="));
    let boundary = boundary.ok_or_else(|| wrong("expected a form"))?.1.trim_matches('"');
    let form = form(body, &format!("--{boundary}")).ok_or_else(|| wrong("expected parts that end"))?;
    let part = |wanted: &str| form.iter().find(|(head, _)| head.contains(&format!("name=\"{wanted}\"")));
    let (_, parameters) = part("UpdateParameters").ok_or_else(|| wrong("UpdateParameters is required"))?;
    let parameters: Value =
        serde_json::from_slice(parameters).map_err(|_| wrong("UpdateParameters is no JSON"))?;
    let (head, file) = part("UpdateFile").ok_or_else(|| wrong("UpdateFile is required"))?;
    let name = head.split_once("filename=\"").and_then(|(_, rest)| rest.split_once('"'));
    let name = name.ok_or_else(|| wrong("UpdateFile has no name"))?.0;
    let mut simple = parameters.as_object().cloned().unwrap_or_default();
    simple.insert("ImageURI".to_owned(), json!(format!("file://{name}")));
    let work = self::simple(parts, &Value::Object(simple))?;
    Ok((work, Pushed { name: name.to_owned(), bytes: file.to_vec() }))
}

/// A file that came by push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// As the form calls it.
    pub name: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// The parts of a form: each its head and its content.
fn form<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<(String, &'a [u8])>> {
    let find = |hay: &[u8], needle: &[u8]| hay.windows(needle.len()).position(|at| at == needle);
    let between = format!("\r\n{boundary}");
    let mut rest = body.strip_prefix(boundary.as_bytes())?;
    let mut parts = Vec::new();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = find(part, between.as_bytes())?;
        let (part, after) = part.split_at_checked(end)?;
        let head = find(part, b"\r\n\r\n")?;
        parts.push((String::from_utf8_lossy(part.get(..head)?).into_owned(), part.get(head + 4..)?));
        rest = after.get(between.len()..)?;
    }
    rest.starts_with(b"--").then_some(parts)
}

/// Where forms go.
pub(super) const PUSH: &str = "/redfish/v1/UpdateService/upload";

const PROTOCOLS: &[&str] = &["HTTP", "HTTPS"];
/// Parts on a page of the list.
const PAGE: usize = 32;

/// Something at or below the service.
pub(super) fn get(view: &View<'_>, path: &str) -> Option<Value> {
    let rest = path.strip_prefix(SERVICE)?;
    Some(match rest.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        [] => {
            let mut service = json!({
                "@odata.id": path, "@odata.type": "#UpdateService.v1_8_0.UpdateService", "Id": "UpdateService",
                "Name": "Update Service", "ServiceEnabled": true, "FirmwareInventory": link(INVENTORY),
                "MultipartHttpPushUri": PUSH,
                "Actions": { "#UpdateService.SimpleUpdate": {
                    "target": format!("{path}/Actions/UpdateService.SimpleUpdate"),
                    "TransferProtocol@Redfish.AllowableValues": PROTOCOLS,
                }},
            });
            if view.config.personality == Personality::Ilo {
                let (state, percent) = view.tasks.newest().map_or(("Idle", 0), |task| task.update_state());
                dress(
                    &mut service,
                    json!({ "Oem": { "Hpe": {
                        "@odata.type": "#HpeiLOUpdateServiceExt.v2_1_1.HpeiLOUpdateServiceExt",
                        "State": state, "FlashProgressPercent": percent,
                    }}}),
                );
            }
            service
        }
        ["FirmwareInventory"] => {
            let skip = view.query.split('&').find_map(|part| part.strip_prefix("$skip=")?.parse().ok());
            let skip = skip.unwrap_or(0);
            let page = view.parts.0.iter().skip(skip).take(PAGE);
            let members: Vec<_> = page.map(|(id, _)| format!("{path}/{id}")).collect();
            let mut page = collection(path, "SoftwareInventoryCollection", &members);
            let next = if view.endless {
                Some(skip)
            } else {
                Some(skip + PAGE).filter(|next| *next < view.parts.0.len())
            };
            if let (Some(next), Some(page)) = (next, page.as_object_mut()) {
                page.insert("Members@odata.nextLink".to_owned(), json!(format!("{path}?$skip={next}")));
            }
            page
        }
        ["FirmwareInventory", id] => {
            let (_, version) = view.parts.0.iter().find(|(part, _)| part == id)?;
            json!({
                "@odata.id": path, "@odata.type": "#SoftwareInventory.v1_4_0.SoftwareInventory", "Id": id,
                "Name": id, "Version": version, "Updateable": true,
                "Status": { "State": "Enabled", "Health": "OK" },
            })
        }
        _ => return None,
    })
}
