use sea_orm::DbErr;

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such row.
    #[error("{name} does not exist")]
    NotFound { name: String },
    /// The row has another revision than the caller read.
    #[error("{name} changed since it was read")]
    Conflict { name: String },
    /// Another row has the name.
    #[error("{name} exists already")]
    Taken { name: String },
    /// `other` has what only one may have.
    #[error("{name} cannot have what {other} has")]
    Rival { name: String, other: String },
    /// The resource that `name` belongs to does not exist.
    #[error("what {name} belongs to does not exist")]
    NoParent { name: String },
    /// Other rows refer to it.
    #[error("{name} is in use")]
    InUse { name: String },
    /// A list cannot be searched by this field.
    #[error("cannot search by {field}")]
    UnknownField { field: String },
    /// A stored message cannot be read: made by a newer version, or damaged.
    #[error("the stored message cannot be read")]
    Corrupt(#[from] prost::DecodeError),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] DbErr),
}
