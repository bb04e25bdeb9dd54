use super::check;
use super::noun::{Noun, etag, labelled};
use farrier_model::Collection;
use farrier_proto::inventory::Flavor;
use prost_types::Timestamp;
use tonic::Status;

impl Noun for Flavor {
    const COLLECTION: Collection = Collection::Flavors;
    const FIELD: &'static str = "flavor";
    const FILTER: &'static [&'static str] = &["architecture", "resource_class", "labels"];
    etag!();
    labelled!();

    fn born(self, uid: String, now: Timestamp) -> Result<Self, Status> {
        check::name("flavor.name", Self::COLLECTION, &self.name)?;
        self.check()?;
        Ok(Self { uid, etag: String::new(), create_time: Some(now), ..self })
    }

    fn check(&self) -> Result<(), Status> {
        check::text("flavor.description", &self.description)?;
        check::architecture("flavor.architecture", &self.architecture)?;
        check::not_negative("flavor.cpu_count", i64::from(self.cpu_count))?;
        check::not_negative("flavor.memory_bytes", self.memory_bytes)?;
        check::not_negative("flavor.disk_bytes", self.disk_bytes)?;
        check::word("flavor.resource_class", &self.resource_class)?;
        check::words("flavor.traits", &self.traits)?;
        check::labels("flavor.labels", &self.labels)
    }
}
