//! As PID 1 of the boot environment: prepares it and keeps an agent running. Started otherwise: is that agent.

use provisioner_agent::{boot, log::Log, run};
use std::{process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    if std::process::id() == 1 {
        boot::run_as_init();
    }
    let log = Arc::new(Log::to_console());
    let ended =
        run::Settings::of_this_machine().map_err(run::RunError::from).and_then(|s| run::run(&s, &log));
    match ended {
        Ok(run::Ended::Reboot(reason)) => {
            log.say(format_args!("reboot: {reason}"));
            ExitCode::from(boot::EXIT_REBOOT)
        }
        Ok(run::Ended::PowerOff(reason)) => {
            log.say(format_args!("power off: {reason}"));
            ExitCode::from(boot::EXIT_POWER_OFF)
        }
        Err(error) => {
            log.say(format_args!("stopped: {error}"));
            ExitCode::from(boot::EXIT_FAILED)
        }
    }
}
