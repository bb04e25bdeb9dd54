use super::check;
use super::noun::{Noun, etag, fields, labelled};
use farrier_model::Collection;
use farrier_proto::inventory::Site;
use prost_types::Timestamp;
use tonic::Status;

impl Noun for Site {
    const COLLECTION: Collection = Collection::Sites;
    const FIELD: &'static str = "site";
    const FILTER: &'static [&'static str] = &["labels"];
    fields!(description, labels);
    etag!();
    labelled!();

    fn born(self, uid: String, now: Timestamp) -> Result<Self, Status> {
        let Self { name, description, labels, .. } = self;
        check::name("site.name", Self::COLLECTION, &name)?;
        let new = Self {
            name,
            uid,
            description,
            labels,
            etag: String::new(),
            create_time: Some(now),
            update_time: Some(now),
        };
        new.check()?;
        Ok(new)
    }

    fn check(&self) -> Result<(), Status> {
        check::text("site.description", &self.description)?;
        check::labels("site.labels", &self.labels)
    }

    fn touch(&mut self, now: Timestamp) {
        self.update_time = Some(now);
    }
}
