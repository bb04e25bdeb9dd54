//! Dell's Server Configuration Profile, as far as this machine has settings: written by a job, which then is the profile; read
//! by one, which changes what the next start brings.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::bios::Bios;
use super::changes::bad;
use super::tasks::Work;

/// POST to OemManager.ExportSystemConfiguration.
pub(super) fn export(body: &Value) -> Result<Work, (StatusCode, Value)> {
    let format = body.get("ExportFormat").and_then(Value::as_str).unwrap_or_default();
    let target = body.pointer("/ShareParameters/Target").and_then(Value::as_str).unwrap_or_default();
    let parts: Vec<_> = target.split(',').collect();
    if !parts.iter().all(|part| ["ALL", "IDRAC", "BIOS"].contains(part)) {
        return Err(bad("ActionParameterValueFormatError", "Target is none of those listed"));
    }
    let bios = parts.iter().any(|part| ["ALL", "BIOS"].contains(part));
    match format {
        "XML" | "JSON" => Ok(Work::Export { json: format == "JSON", bios }),
        _ => Err(bad("ActionParameterValueFormatError", "ExportFormat is none of those listed")),
    }
}

/// What a finished export is, in place of its task.
pub(super) fn written(bios: &Bios, json: bool, with_bios: bool) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let attributes = bios.now().iter().filter(|_| with_bios).map(|(name, value)| (name.clone(), text(value)));
    if json {
        let attributes = attributes.map(|(name, value)| json!({ "Name": name, "Value": value }));
        let component = json!({ "FQDD": "BIOS.Setup.1-1", "Attributes": attributes.collect::<Vec<_>>() });
        return json!({ "SystemConfiguration": { "Model": "PowerEdge", "Components": [component] } })
            .to_string();
    }
    let attributes =
        attributes.map(|(name, value)| format!("  <Attribute Name=\"{name}\">{value}</Attribute>\n"));
    format!(
        "<SystemConfiguration Model=\"PowerEdge\">\n<Component FQDD=\"BIOS.Setup.1-1\">\n{}</Component>\n\
         </SystemConfiguration>\n",
        attributes.collect::<String>()
    )
}

/// Settings of the BIOS that a profile names, of the type that each has.
pub(super) fn settings(bios: &Bios, profile: &str) -> Map<String, Value> {
    let whole: Option<Value> = serde_json::from_str(profile).ok();
    let named: Vec<(String, String)> = match &whole {
        Some(json) => {
            let components = json.pointer("/SystemConfiguration/Components").and_then(Value::as_array);
            let attributes =
                components.into_iter().flatten().filter_map(|one| one.get("Attributes")?.as_array());
            let text = |attribute: &Value, name: &str| Some(attribute.get(name)?.as_str()?.to_owned());
            attributes.flatten().filter_map(|one| Some((text(one, "Name")?, text(one, "Value")?))).collect()
        }
        None => {
            let parts = profile.split("<Attribute Name=\"").skip(1);
            let named = parts.filter_map(|part| part.split_once("\">"));
            named
                .map(|(name, rest)| (name.to_owned(), rest.split('<').next().unwrap_or_default().to_owned()))
                .collect()
        }
    };
    let typed = named.into_iter().filter_map(|(name, text)| {
        let now = bios.now().get(&name)?;
        let value = if now.is_string() { json!(text) } else { serde_json::from_str(&text).ok()? };
        Some((name, value))
    });
    typed.collect()
}
