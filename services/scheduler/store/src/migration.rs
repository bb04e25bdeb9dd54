use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, binary, binary_null, boolean, integer, string};

pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(First), Box::new(Sealed)]
    }
}

struct First;

impl MigrationName for First {
    fn name(&self) -> &str {
        "m0001_instances_operations"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for First {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.create_table(
            Table::create()
                .table("instances")
                .col(string("name").primary_key())
                .col(string("owner"))
                .col(integer("state"))
                .col(string("placed_node"))
                .col(big_integer("revision"))
                .col(binary("body"))
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("operations")
                .col(string("name").primary_key())
                .col(string("owner"))
                .col(integer("kind"))
                .col(integer("phase"))
                .col(boolean("done"))
                .col(string("target"))
                .col(string("node"))
                .col(string("rack"))
                .col(string("cancel"))
                .col(binary("work"))
                .col(big_integer("revision"))
                .col(binary("body"))
                .to_owned(),
        )
        .await?;
        m.create_index(Index::create().name("operations_done").table("operations").col("done").to_owned())
            .await?;
        m.create_index(Index::create().name("operations_node").table("operations").col("node").to_owned())
            .await?;
        m.create_index(
            Index::create().name("operations_target").table("operations").col("target").to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("requests")
                .col(string("id").primary_key())
                .col(binary("content"))
                .col(string("operation"))
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("cursors")
                .col(string("rack").primary_key())
                .col(big_integer("sequence"))
                .to_owned(),
        )
        .await
    }
}

/// User data apart from the work, sealed.
struct Sealed;

impl MigrationName for Sealed {
    fn name(&self) -> &str {
        "m0002_sealed_user_data"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Sealed {
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let mut change = Table::alter();
        m.alter_table(change.table("operations").add_column(binary_null("sealed")).to_owned()).await
    }
}
