//! The schema, forward only.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbErr;

/// Every migration, oldest first.
#[derive(Debug)]
pub struct Migrations;

impl MigratorTrait for Migrations {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Initial), Box::new(Reservations), Box::new(Holds)]
    }

    /// The services may share one PostgreSQL database.
    fn migration_table_name() -> DynIden {
        Alias::new("images_migrations").into_iden()
    }
}

struct Initial;

impl MigrationName for Initial {
    fn name(&self) -> &str {
        "m20261122_initial"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Initial {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let text = |name: &'static str| ColumnDef::new(Alias::new(name)).string().not_null().to_owned();
        let number =
            |name: &'static str| ColumnDef::new(Alias::new(name)).big_integer().not_null().to_owned();
        manager
            .create_table(
                Table::create()
                    .table(Alias::new("images"))
                    .if_not_exists()
                    .col(text("name").primary_key())
                    .col(text("uid").unique_key())
                    .col(text("owner"))
                    .col(number("revision"))
                    .col(number("created_ms"))
                    .col(text("sha256"))
                    .col(text("architecture"))
                    .col(text("manifest_sha256"))
                    .col(text("request_id"))
                    .col(ColumnDef::new(Alias::new("body")).binary().not_null())
                    .to_owned(),
            )
            .await?;
        for column in ["owner", "sha256", "manifest_sha256"] {
            manager
                .create_index(
                    Index::create()
                        .name(format!("images_{column}"))
                        .table(Alias::new("images"))
                        .col(Alias::new(column))
                        .if_not_exists()
                        .to_owned(),
                )
                .await?;
        }
        Ok(())
    }
}

/// Names kept for what racks upload.
struct Reservations;

impl MigrationName for Reservations {
    fn name(&self) -> &str {
        "m20261128_reservations"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Reservations {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let text = |name: &'static str| ColumnDef::new(Alias::new(name)).string().not_null().to_owned();
        manager
            .create_table(
                Table::create()
                    .table(Alias::new("reservations"))
                    .if_not_exists()
                    .col(text("name").primary_key())
                    .col(text("owner"))
                    .col(text("description"))
                    .col(text("architecture"))
                    .col(text("rack"))
                    .col(text("operation"))
                    .col(ColumnDef::new(Alias::new("expires_ms")).big_integer().not_null())
                    .to_owned(),
            )
            .await
    }
}

/// Who needs an image's bytes.
struct Holds;

impl MigrationName for Holds {
    fn name(&self) -> &str {
        "m20261129_holds"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Holds {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let text = |name: &'static str| ColumnDef::new(Alias::new(name)).string().not_null().to_owned();
        manager
            .create_table(
                Table::create()
                    .table(Alias::new("holds"))
                    .if_not_exists()
                    .col(text("instance").primary_key())
                    .col(text("image"))
                    .col(text("owner"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("holds_image")
                    .table(Alias::new("holds"))
                    .col(Alias::new("image"))
                    .if_not_exists()
                    .to_owned(),
            )
            .await
    }
}
