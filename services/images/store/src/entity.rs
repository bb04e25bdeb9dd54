//! The `images` table, `reservations` and `holds`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "images")]
pub(crate) struct Model {
    /// The id in `images/{image}`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Project; empty: everybody's.
    pub(crate) owner: String,
    pub(crate) revision: i64,
    pub(crate) created_ms: i64,
    /// Of the uploaded file, lower case hex.
    pub(crate) sha256: String,
    pub(crate) architecture: String,
    /// Which disk file holds the content; images with the same content share it.
    pub(crate) manifest_sha256: String,
    /// Of the upload that made it; empty: none was given.
    pub(crate) request_id: String,
    /// `farrier.images.v1.Image`; the columns above win.
    pub(crate) body: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The `reservations` table.
pub(crate) mod reservation {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "reservations")]
    pub(crate) struct Model {
        /// The id in `images/{image}`.
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) name: String,
        pub(crate) owner: String,
        pub(crate) description: String,
        pub(crate) architecture: String,
        /// `racks/{rack}`
        pub(crate) rack: String,
        /// `operations/{operation}`
        pub(crate) operation: String,
        pub(crate) expires_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The `holds` table.
pub(crate) mod hold {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "holds")]
    pub(crate) struct Model {
        /// `instances/{instance}`: each needs one image at most.
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) instance: String,
        /// The id in `images/{image}`.
        pub(crate) image: String,
        /// Project of the instance.
        pub(crate) owner: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
