//! Who may call what.

use farrier_identity::Role;
use farrier_runtime::authz::{Rule, RuleTable};

/// What this server serves.
pub const SERVICES: &[&str] = &["farrier.images.v1.ImageService"];

const LOOK: Rule =
    Rule::Any(&[Rule::User(Role::Reader), Rule::Service(&["console", "inventory", "scheduler"])]);
/// The bytes are for racks. A project's own users have uploaded them and need no way back; an operator who
/// looks for a fault does.
const BYTES: Rule = Rule::Any(&[Rule::Rack, Rule::Service(&["scheduler"]), Rule::User(Role::Operator)]);

/// Names that racks upload to, and bytes that instances need.
const KEEP: Rule = Rule::Service(&["scheduler"]);

/// One rule a method; which images, the handlers check. A rack uploads under its reservation only.
pub const RULES: RuleTable = &[
    ("farrier.images.v1.ImageService/UploadImage", Rule::Any(&[Rule::User(Role::Member), Rule::Rack])),
    ("farrier.images.v1.ImageService/GetImage", LOOK),
    ("farrier.images.v1.ImageService/ListImages", LOOK),
    ("farrier.images.v1.ImageService/DeleteImage", Rule::User(Role::Member)),
    ("farrier.images.v1.ImageService/ReserveImage", KEEP),
    ("farrier.images.v1.ImageService/ReleaseImage", KEEP),
    ("farrier.images.v1.ImageService/HoldImage", KEEP),
    ("farrier.images.v1.ImageService/DropHold", KEEP),
    ("farrier.images.v1.ImageService/GetManifest", BYTES),
    ("farrier.images.v1.ImageService/ReadChunks", BYTES),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_rule() {
        let holes = farrier_runtime::authz::unruled(SERVICES, RULES);
        assert!(holes.is_empty(), "{holes:?}");
    }
}
