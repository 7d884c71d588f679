//! Shows which real services the tests would use: `cargo xtask test-services`. Exits with 1 when one is missing.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut missing = 0;
    for outlook in services::survey().await {
        match outlook.found {
            Ok(how) => println!("{:<16} {how}", outlook.service),
            Err(why) => {
                missing += 1;
                println!("{:<16} MISSING: {why}", outlook.service);
            }
        }
    }
    if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
