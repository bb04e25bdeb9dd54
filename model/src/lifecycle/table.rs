use super::{Event, State};

/// One edge of the life cycle.
#[derive(Debug, Clone, Copy)]
pub struct Edge {
    pub from: State,
    pub event: Event,
    pub to: State,
    /// Why this edge exists, for the picture and for `explain`.
    pub why: &'static str,
}

macro_rules! table {
    ($($event:ident: $($from:ident)|+ => $to:ident, $why:literal;)+) => {
        &[$($(Edge { from: State::$from, event: Event::$event, to: State::$to, why: $why },)+)+]
    };
}

/// Every edge. `docs/life-cycle.md` is drawn from it, and a test fails when the drawing is stale.
pub const TABLE: &[Edge] = table! {
    Manage: Enroll | VerifyFailed => Verifying, "prove that the BMC answers with these credentials";
    Done: Verifying => Manageable, "the BMC answered and its power state is known";
    Fail: Verifying => VerifyFailed, "the BMC did not answer, or refused the credentials";
    Abort: Verifying => VerifyFailed, "stopped by a person";
    Manage: Available | InspectFailed | CleanFailed | AdoptFailed => Manageable, "taken back by its operator";

    Inspect: Manageable | InspectFailed => Inspecting, "boot the ramdisk and look at the hardware";
    Done: Inspecting => Manageable, "the agent reported the hardware";
    Fail: Inspecting => InspectFailed, "the ramdisk did not report";
    Abort: Inspecting => InspectFailed, "stopped by a person";

    Clean: Manageable | CleanFailed => Cleaning, "erase and prove it, for its operator";
    Provide: Manageable | CleanFailed => Cleaning, "a node is offered only after a proven clean";
    Done: Cleaning => Available, "erased, and read back";
    Cleaned: Cleaning => Manageable, "erased, and read back; `clean` was asked for, not `provide`";
    Fail: Cleaning => CleanFailed, "something was left on a disk, or the ramdisk did not report";
    Abort: Cleaning => CleanFailed, "stopped by a person: nothing is proven";

    Deploy: Available => Deploying, "placement gave it to an instance";
    Recover: Available | DeployFailed => Deploying, "an instance comes with its disk from a node that broke";
    Moved: Active | DeployFailed => CleanFailed, "its instance lives on another node; what it left here was not looked at";
    Rebuild: Active | DeployFailed => Deploying, "the same instance, written anew";
    Done: Deploying => Active, "the operating system itself answered";
    Fail: Deploying => DeployFailed, "a step failed; the node keeps its instance until undeploy";
    Abort: Deploying => DeployFailed, "stopped by a person";

    Undeploy: Active | DeployFailed | DeleteFailed | Rescue | RescueFailed | UnrescueFailed | ServiceFailed => Deleting,
        "the instance is given back";
    Done: Deleting => Available, "off, erased and read back: the same proof as cleaning";
    Fail: Deleting => DeleteFailed, "could not be switched off or erased; never offered in this state";
    Abort: Deleting => DeleteFailed, "stopped by a person: nothing is proven";

    RescueNode: Active | Rescue | RescueFailed | UnrescueFailed | ServiceFailed => Rescuing, "boot a rescue system";
    Done: Rescuing => Rescue, "the rescue system answers";
    Fail: Rescuing => RescueFailed, "the rescue system did not answer";
    Abort: Rescuing => RescueFailed, "stopped by a person";
    Unrescue: Rescue | RescueFailed | UnrescueFailed => Unrescuing, "back to the instance's own system";
    Done: Unrescuing => Active, "the operating system itself answered";
    Fail: Unrescuing => UnrescueFailed, "the operating system did not answer";
    Abort: Unrescuing => UnrescueFailed, "stopped by a person";

    Adopt: Manageable | AdoptFailed => Adopting, "take over a running server as it is";
    Done: Adopting => Active, "the server answers as described";
    Fail: Adopting => AdoptFailed, "the server is not as described";
    Abort: Adopting => AdoptFailed, "stopped by a person";

    Service: Active | ServiceFailed => Servicing, "change firmware or settings under a running instance";
    Done: Servicing => Active, "the operating system itself answered";
    Fail: Servicing => ServiceFailed, "a step failed";
    Abort: Servicing => ServiceFailed, "stopped by a person";
};
