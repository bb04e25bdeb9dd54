//! Tables. sea-orm derives want `pub` items; nothing leaves this crate.
#![allow(unreachable_pub)]

pub(crate) mod instance {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "instances")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        pub owner: String,
        pub state: i32,
        pub placed_node: String,
        pub revision: i64,
        /// `farrier.scheduler.v1.Instance`.
        pub body: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod operation {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "operations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        pub owner: String,
        pub kind: i32,
        pub phase: i32,
        pub done: bool,
        pub target: String,
        pub node: String,
        pub rack: String,
        /// Why it is to stop; empty: it is not.
        pub cancel: String,
        /// `farrier.rack.v1.TaskSpec` without a machine: what the rack shall do.
        pub work: Vec<u8>,
        /// User data, sealed by the service. Gone when the operation is done.
        pub sealed: Option<Vec<u8>>,
        pub revision: i64,
        /// `farrier.scheduler.v1.Operation`.
        pub body: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod request {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "requests")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub content: Vec<u8>,
        pub operation: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod cursor {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "cursors")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub rack: String,
        pub sequence: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
