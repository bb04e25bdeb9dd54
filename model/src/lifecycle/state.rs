use std::fmt;
use std::str::FromStr;

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$vdoc])* $variant,)+ }

        impl $type {
            pub const ALL: &'static [$type] = &[$($type::$variant,)+];

            pub fn as_str(self) -> &'static str {
                match self { $($type::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = ();
            fn from_str(s: &str) -> Result<Self, ()> {
                Self::ALL.iter().copied().find(|v| v.as_str() == s).ok_or(())
            }
        }
    };
}

names! {
    /// Where a node is (`farrier.type.v1.ProvisionState`, same words).
    State {
        Enroll = "enroll",
        Verifying = "verifying",
        VerifyFailed = "verify failed",
        Manageable = "manageable",
        Inspecting = "inspecting",
        InspectFailed = "inspect failed",
        Cleaning = "cleaning",
        CleanFailed = "clean failed",
        Available = "available",
        Deploying = "deploying",
        DeployFailed = "deploy failed",
        Active = "active",
        Deleting = "deleting",
        DeleteFailed = "delete failed",
        Rescuing = "rescuing",
        Rescue = "rescue",
        RescueFailed = "rescue failed",
        Unrescuing = "unrescuing",
        UnrescueFailed = "unrescue failed",
        Adopting = "adopting",
        AdoptFailed = "adopt failed",
        Servicing = "servicing",
        ServiceFailed = "service failed",
    }
}

names! {
    /// What happens to a node: verbs that people ask for, and outcomes of the work.
    Event {
        Manage = "manage",
        Inspect = "inspect",
        Clean = "clean",
        Provide = "provide",
        Deploy = "deploy",
        /// An instance comes to it with its disk, from a node that broke.
        Recover = "recover",
        Rebuild = "rebuild",
        Undeploy = "undeploy",
        RescueNode = "rescue",
        Unrescue = "unrescue",
        Adopt = "adopt",
        Service = "service",
        /// The work was stopped.
        Abort = "abort",
        /// The work succeeded.
        Done = "done",
        /// The cleaning that `clean` asked for succeeded: the node stays with its operator.
        Cleaned = "cleaned",
        /// The work failed.
        Fail = "fail",
        /// Its instance lives on another node now.
        Moved = "moved",
    }
}

impl State {
    /// Somebody works on the node: it has an operation and a deadline.
    pub fn is_working(self) -> bool {
        use State::*;
        matches!(
            self,
            Verifying
                | Inspecting
                | Cleaning
                | Deploying
                | Deleting
                | Rescuing
                | Unrescuing
                | Adopting
                | Servicing
        )
    }

    /// The last work failed; a person or a policy decides.
    pub fn is_failed(self) -> bool {
        use State::*;
        matches!(
            self,
            VerifyFailed
                | InspectFailed
                | CleanFailed
                | DeployFailed
                | DeleteFailed
                | RescueFailed
                | UnrescueFailed
                | AdoptFailed
                | ServiceFailed
        )
    }

    /// A node in this state may be given to nobody and deleted by its operator.
    pub fn is_removable(self) -> bool {
        use State::*;
        matches!(
            self,
            Enroll | VerifyFailed | Manageable | InspectFailed | CleanFailed | Available | AdoptFailed
        )
    }
}

impl Event {
    /// People ask for it, as opposed to an outcome.
    pub fn is_verb(self) -> bool {
        !matches!(self, Event::Done | Event::Cleaned | Event::Fail | Event::Moved)
    }

    /// This version does the work. The others are in the table so that the life cycle is whole, and are
    /// refused with the reason NOT_DRIVEN.
    pub fn is_driven(self) -> bool {
        use Event::*;
        !matches!(self, Rebuild | RescueNode | Unrescue | Adopt | Service)
    }
}
