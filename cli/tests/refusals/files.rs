//! Mistakes in the file of services of a site.

use crate::world::World;

const CART: &str = "apiVersion: meshfed.dev/v1alpha1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec:\n  \
                    ports: [{port: 80}]\n  endpoints: [{address: 127.0.0.1}]\n";

#[test]
fn a_mistake_in_a_file_of_services_shows_in_status_and_events_and_withdraws_nothing() {
    let world = World::new();
    world.init("east", &["--services", "services.yaml"]);
    world.home.write("east/services.yaml", CART);
    let _site = world.start("east", &["site", "east"]);
    world.until("the service", || world.try_service("east", "shop/cart"));
    let status = |fits: &dyn Fn(&str) -> bool| {
        world.until("a status", || {
            let ran = world.run(&["status", "--context", "east"]);
            if fits(&ran.out) { Ok(ran) } else { Err(format!("{}{}", ran.out, ran.err)) }
        })
    };

    world.home.write("east/services.yaml", &CART.replace("ports:", "prts:"));
    let ran = status(&|text| text.contains("prts"));
    assert_eq!(ran.code, 1, "somebody has to correct it\n{}", ran.out);
    for says in [
        "error: connector files:",
        "east/services.yaml:5:3: unknown field `prts`",
        "what was read from it before stays in force",
        "did you mean `ports`",
        "it is read again within a second",
    ] {
        assert!(ran.out.contains(says), "no `{says}` in\n{}", ran.out);
    }
    let events = world.events("east");
    assert!(
        events.contains("connector files: has a mistake: ") && events.contains("services.yaml:5:3"),
        "{events}"
    );
    assert!(world.try_service("east", "shop/cart").is_ok(), "the last good state stays");

    world.home.write("east/services.yaml", &CART.replace("port: 80", "port: 81"));
    status(&|text| !text.contains("prts"));
    assert!(world.events("east").contains("connector files: is read again"));
}
