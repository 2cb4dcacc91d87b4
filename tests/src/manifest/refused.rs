//! What is refused, and the exact words.

use super::parse;

/// Manifest, and the one line about it without the file's name.
const REFUSED: &[(&str, &str)] = &[
    // Unknown keys, with the one that was probably meant.
    ("prot = 80", "line 1: prot is not a key of the manifest; did you mean port?"),
    (
        "\n\nprivileged = true",
        "line 3: privileged is not a key of the manifest; known here are database, objects, app, port, command, health, start_timeout, memory, tmp, build, release, env, process, service, cron, link",
    ),
    (
        "[build]\nfile = \"x\"",
        "line 2: build.file is not a key of the manifest; known here are image, dockerfile, context, target, args, secrets",
    ),
    ("[build]\ndockerFile = \"x\"", "line 2: build.dockerFile is not a key of the manifest; did you mean dockerfile?"),
    (
        "[service.db]\nimage = \"x\"\nvolumes = []",
        "line 3: service.db.volumes is not a key of the manifest; known here are image, command, env, port, health, memory, data",
    ),
    (
        "\"a\\nb\" = 1",
        "line 1: \"a\\nb\" is not a key of the manifest; known here are database, objects, app, port, command, health, start_timeout, memory, tmp, build, release, env, process, service, cron, link",
    ),
    // What the contract promises, held wrongly.
    (
        "[build]\n\nimage = \"ghcr.io/acme/shop\"",
        "line 3: build.image has no tag: without one every commit would get the same image; write ghcr.io/acme/shop:{sha}",
    ),
    (
        "[build]\nimage = \"shop:${STAGING_SHA}\"",
        "line 2: build.image may only hold {sha}, {short_sha}, {pr} and {branch}, not \"STAGING_SHA\"",
    ),
    ("[build]\nimage = \"shop:{sha\"", "line 2: build.image holds `{` without `}`"),
    (
        "[build]\nimage = \"https://ghcr.io/shop:{sha}\"",
        "line 2: build.image must be the reference of an image such as \"ghcr.io/acme/shop:sha-{short_sha}\", not \"https://ghcr.io/shop:{sha}\"",
    ),
    (
        "[build]\nsecrets = [\"A B\"]",
        "line 2: build.secrets holds \"A B\", which is no name of a secret: letters, digits and `_`, not a digit first",
    ),
    (
        "[build]\nsecrets = [\"STAGING_X\"]",
        "line 2: build.secrets holds \"STAGING_X\", which is given by Sidestage, and cannot be a secret",
    ),
    ("[build]\nsecrets = [\"A\",\n\"A\"]", "line 3: build.secrets holds A twice; remove one"),
    (
        "[database]\nbaseline = false\ncarry = true",
        "line 3: database.carry needs a database, and baseline = false; remove one",
    ),
    ("[database]\ncarry = 1", "line 2: database.carry must be true or false, not the integer 1"),
    (
        "[database]\nextensions = [\"x; drop\"]",
        "line 2: database.extensions must name extensions of PostgreSQL, not \"x; drop\"",
    ),
    (
        "[database]\nbaseline = false\nextensions = [\"hstore\"]",
        "line 3: database.extensions needs a database, and baseline = false; remove one",
    ),
    (
        "[objects]\npublic = [\"/static\"]",
        "line 2: objects.public must hold beginnings of keys such as \"static/\", without a leading slash, not \"/static\"",
    ),
    (
        "[objects]\npublic = [\"\"]",
        "line 2: objects.public must hold beginnings of keys such as \"static/\", without a leading slash, not \"\"",
    ),
    (
        "[app.a-much-too-long-name-of-an-application-ab]\n",
        "line 1: app.a-much-too-long-name-of-an-application-ab is no possible name: at most 10 of a-z, 0-9 and single inner hyphens, a letter first",
    ),
    (
        "[app.a--b]\n",
        "line 1: app.a--b is no possible name: at most 10 of a-z, 0-9 and single inner hyphens, a letter first",
    ),
    ("[app.web]\n", "line 1: app.web is a reserved name; take another"),
    ("[app.api]\nport = 0", "line 2: app.api.port must be a port from 1 to 65535, not the integer 0"),
    (
        "[app.api]\nimage = \"a:{sha}\"\nbuild = { image = \"b:{sha}\" }",
        "line 1: app.api has image twice, its own and that of build; remove one",
    ),
    ("[app.a]\n[process.a]\ncommand = [\"x\"]", "line 1: app and process both have \"a\"; rename one"),
    ("[service.a]\nimage = \"x\"\n[app.a]\n", "line 1: service and app both have \"a\"; rename one"),
    ("[cron.a]\ncommand = [\"x\"]", "line 1: cron.a lacks schedule; add schedule = \"*/5 * * * *\""),
    (
        "[cron.a]\nschedule = \"* * * * * *\"\ncommand = [\"x\"]",
        "line 2: cron.a.schedule has 6 fields, so it would count seconds, and once a minute is the most: minute, hour, day, month, weekday, such as \"*/5 * * * *\"",
    ),
    (
        "[cron.a]\nschedule = \"@reboot\"\ncommand = [\"x\"]",
        "line 2: cron.a.schedule must have five fields: minute, hour, day, month, weekday, such as \"*/5 * * * *\"",
    ),
    (
        "[cron.a]\nschedule = \"0 0 30 2 *\"\ncommand = [\"x\"]",
        "line 2: cron.a.schedule never fires: no year has such a day",
    ),
    ("[command.x]\n", "line 1: command.x lacks command; add command = [\"bin/sample-data\"]"),
    (
        "command = [\"bin/web\"]\n[command.x]\ncommand = [\"x\"]",
        "line 2: not TOML: cannot extend value of type array with a dotted key; beside [command.NAME], the command of the web process is written [process.web]",
    ),
    (
        "command = [\"a\"]\n[process.web]\ncommand = [\"x\"]",
        "line 2: process.web is the web process, whose command the file has already; remove one",
    ),
    ("[service.c]\nimage = \"x\"\ndata = \"1m\"", "line 3: service.c.data must be at least 16m, not 1m"),
    // Types and bounds.
    ("port = \"80; rm\"", "line 1: port must be a port from 1 to 65535, not the string \"80; rm\""),
    ("port = 0", "line 1: port must be a port from 1 to 65535, not the integer 0"),
    ("port = 65536", "line 1: port must be a port from 1 to 65535, not the integer 65536"),
    ("port = -1", "line 1: port must be a port from 1 to 65535, not the integer -1"),
    ("port = 1.5", "line 1: port must be a port from 1 to 65535, not the float 1.5"),
    (
        "command = \"bin/web\"",
        "line 1: command must be an array of strings, such as [\"bin/web\", \"--port\", \"8080\"], not the string \"bin/web\"",
    ),
    (
        "command = [\n\"a\",\n1]",
        "line 3: command must be an array of strings, such as [\"bin/web\", \"--port\", \"8080\"], not the integer 1",
    ),
    (
        "command = []",
        "line 1: command is empty; write an array of strings, such as [\"bin/web\", \"--port\", \"8080\"]",
    ),
    ("command = [\"a\\u0000\"]", "line 1: command holds a NUL, which no process can be given; remove it"),
    ("health = true", "line 1: health must be a string, not true"),
    (
        "health = \"healthz\"",
        "line 1: health must be a path such as \"/healthz\", printable ASCII behind one slash, not \"healthz\"",
    ),
    (
        "health = \"//evil.example\"",
        "line 1: health must be a path such as \"/healthz\", printable ASCII behind one slash, not \"//evil.example\"",
    ),
    (
        "health = \"/a\\r\\nHost: b\"",
        "line 1: health must be a path such as \"/healthz\", printable ASCII behind one slash, not \"/a\\r\\nHost: b\"",
    ),
    ("start_timeout = 120", "line 1: start_timeout must be a duration such as \"2m\", not the integer 120"),
    (
        "start_timeout = \"2 minutes\"",
        "line 1: start_timeout = \"2 minutes\" is not a duration: write a whole number with its unit, such as \"90s\", \"15m\", \"10h\", \"5d\" or \"2w\"",
    ),
    (
        "start_timeout = \"never\"",
        "line 1: start_timeout = \"never\" is not a duration: write a whole number with its unit, such as \"90s\", \"15m\", \"10h\", \"5d\" or \"2w\"",
    ),
    ("start_timeout = \"31m\"", "line 1: start_timeout must be from 1s to 30m, not 31m"),
    ("start_timeout = \"0s\"", "line 1: start_timeout must be from 1s to 30m, not 0s"),
    ("memory = 512", "line 1: memory must be a size such as \"512m\", not the integer 512"),
    (
        "memory = \"lots\"",
        "line 1: memory = \"lots\" is not a size: write a whole number with its unit, such as \"64k\", \"512m\" or \"1g\"",
    ),
    (
        "memory = \"99999999999999t\"",
        "line 1: memory = \"99999999999999t\" is not a size: write a whole number with its unit, such as \"64k\", \"512m\" or \"1g\"",
    ),
    ("memory = \"5m\"", "line 1: memory must be at least 6m, not 5m"),
    (
        "tmp = { \"app\" = \"1m\" }",
        "line 1: tmp.app must be the absolute path of a folder such as \"/app/tmp\", not below /proc, /sys or /dev",
    ),
    (
        "[tmp]\n\"/a/../etc\" = \"1m\"",
        "line 2: tmp.\"/a/../etc\" must be the absolute path of a folder such as \"/app/tmp\", not below /proc, /sys or /dev",
    ),
    (
        "[tmp]\n\"/\" = \"1m\"",
        "line 2: tmp.\"/\" must be the absolute path of a folder such as \"/app/tmp\", not below /proc, /sys or /dev",
    ),
    (
        "[tmp]\n\"/proc/self\" = \"1m\"",
        "line 2: tmp.\"/proc/self\" must be the absolute path of a folder such as \"/app/tmp\", not below /proc, /sys or /dev",
    ),
    ("[tmp]\n\"/a\" = \"1m\"\n\"/a/\" = \"1m\"", "line 3: tmp.\"/a/\" is there twice; remove one"),
    (
        "build = \"Dockerfile\"",
        "line 1: build must be a table, such as [build] with dockerfile = \"Dockerfile\", not the string \"Dockerfile\"",
    ),
    (
        "[build]\ndockerfile = \"../Dockerfile\"",
        "line 2: build.dockerfile must be a path within the repository, without `..`, not \"../Dockerfile\"",
    ),
    ("[build]\ndockerfile = \".\"", "line 2: build.dockerfile must name a file"),
    (
        "[build]\ncontext = \"/etc\"",
        "line 2: build.context must be a path within the repository, without `..`, not \"/etc\"",
    ),
    ("[build]\ncontext = \"\"", "line 2: build.context must be a path within the repository, without `..`, not \"\""),
    ("[build]\ntarget = \"a b\"", "line 2: build.target must be the name of a stage of the Dockerfile, not \"a b\""),
    (
        "[build]\nargs = { TOKEN = \"${DATABASE_URL}\" }",
        "line 2: build.args.TOKEN may only hold `${STAGING_…}`: an image remembers its build arguments, and a tree is built once",
    ),
    (
        "[build]\nargs = { TOKEN = \"${random:8}\" }",
        "line 2: build.args.TOKEN may only hold `${STAGING_…}`: an image remembers its build arguments, and a tree is built once",
    ),
    ("[build]\nargs = { N = 1 }", "line 2: build.args.N must be a string: write \"1\", not the integer 1"),
    ("[database]\nbaseline = true", "line 2: database.baseline must be a string or false, not true"),
    (
        "[database]\nbaseline = \"../x\"",
        "line 2: database.baseline is no possible name of a baseline: a-z, 0-9 and single inner hyphens, a letter first",
    ),
    ("database = false", "line 1: database must be a table, such as baseline = \"default\", not false"),
    ("\n[release]\ntimeout = \"1m\"", "line 2: release lacks command; add command = [\"bin/migrate\"]"),
    ("[release]\ncommand = [\"x\"]\ntimeout = \"3h\"", "line 3: release.timeout must be from 1s to 2h, not 3h"),
    (
        "[process.Worker]\ncommand = [\"x\"]",
        "line 1: process.Worker is no possible name: at most 20 of a-z, 0-9 and single inner hyphens, a letter first",
    ),
    (
        "[process.worker-with-a-long-name]\ncommand = [\"x\"]",
        "line 1: process.worker-with-a-long-name is no possible name: at most 20 of a-z, 0-9 and single inner hyphens, a letter first",
    ),
    ("[service.release]\nimage = \"x\"", "line 1: service.release is a reserved name; take another"),
    ("[service.data]\nimage = \"x\"", "line 1: service.data is a reserved name; take another"),
    ("[process.a]\n", "line 1: process.a lacks command; add command = [\"bin/worker\"]"),
    (
        "process = []",
        "line 1: process must be a table, such as [process.worker] with command = [\"bin/worker\"], not an array",
    ),
    ("[service.a]\n", "line 1: service.a lacks image; add image = \"redis:7\""),
    ("[service.a]\nimage = \"a b\"", "line 2: service.a.image must be an image such as \"redis:7\", not \"a b\""),
    ("[service.a]\nimage = \"a\"\nhealth = \"/\"", "line 3: service.a.health needs a port to ask; add port = …"),
    (
        "[process.a]\ncommand = [\"x\"]\n[service.a]\nimage = \"x\"",
        "line 3: service and process both have \"a\"; rename one",
    ),
    (
        "[link]\nname = \"x\"",
        "line 1: link must be an array of tables, such as [[link]] with name = \"Admin\" and path = \"/admin\", not a table",
    ),
    ("[[link]]\nname = \"A\"\npath = \"/\"\n[[link]]\nname = \"B\"", "line 4: link lacks path; add path = \"/admin\""),
    ("[[link]]\nname = \"\"\npath = \"/\"", "line 2: link.name must be one line of 1 to 60 characters"),
    (
        "[[link]]\nname = \"A\"\npath = \"javascript:alert(1)\"",
        "line 3: link.path must be a path such as \"/healthz\", printable ASCII behind one slash, not \"javascript:alert(1)\"",
    ),
    // Templates.
    ("[env]\nA = \"${S3_BUCKT}\"", "line 2: env.A holds `${S3_BUCKT}`, which is unknown; did you mean `${S3_BUCKET}`?"),
    (
        "[env]\nA = \"${STAGING_URI}\"",
        "line 2: env.A holds `${STAGING_URI}`, which is unknown; did you mean `${STAGING_URL}`?",
    ),
    (
        "[env]\nA = \"${STAGING_URL_API}\"",
        "line 2: env.A holds `${STAGING_URL_API}`, which is unknown: there is no [app] of that name",
    ),
    ("[env]\nA = \"${SMTP_HOST}\"", "line 2: env.A holds `${SMTP_HOST}`, which is not yet injected"),
    (
        "[env]\nA = \"${A:-b}\"",
        "line 2: env.A holds `${A:-b}`, which is neither `${NAME}` nor `${random:N}` nor `${random_base64:N}`; there are no defaults and no nesting, and a plain `${` is written `$${`",
    ),
    ("[env]\nA = \"${A\"", "line 2: env.A holds `${` without `}`: close it, or write `$${` for a plain `${`"),
    ("[env]\nA = \"${random:0}\"", "line 2: env.A holds `${random:0}`: the number must be 1 to 1024"),
    (
        "[env]\nA = \"${random:99999999999999999999}\"",
        "line 2: env.A holds `${random:99999999999999999999}`: the number must be 1 to 1024",
    ),
    ("[env]\nA = \"${random_base64:+8}\"", "line 2: env.A holds `${random_base64:+8}`: the number must be 1 to 1024"),
    ("[env]\nPORT = \"80\"", "line 2: env.PORT cannot be set: it is the manifest's port, `port = …`"),
    (
        "[env]\nSTAGING_URL = \"x\"",
        "line 2: env.STAGING_URL cannot be set: names that begin with STAGING are given by Sidestage",
    ),
    ("[env]\nDEBUG = true", "line 2: env.DEBUG must be a string: write \"true\", not true"),
    (
        "[env]\n\"A=B\" = \"c\"",
        "line 2: env.\"A=B\" is no name of a variable: letters, digits, `_`, `.` and `-`, not a digit first",
    ),
    (
        "command = [\"${DATABASE_URL}\"]\n[database]\nbaseline = false",
        "line 1: command holds `${DATABASE_URL}`, but [database] has baseline = false",
    ),
    (
        "[objects]\nbaseline = false\n[env]\nB = \"${S3_BUCKET}\"",
        "line 4: env.B holds `${S3_BUCKET}`, but [objects] has baseline = false",
    ),
    (
        "[service.a]\nimage = \"x\"\nenv = { PORT = \"1\" }",
        "line 3: service.a.env.PORT cannot be set: it is the manifest's port, `port = …`",
    ),
    (
        "[service.a]\nimage = \"x\"\n[service.a.env]\nX = \"${PGHOSTS}\"",
        "line 4: service.a.env.X holds `${PGHOSTS}`, which is unknown; did you mean `${PGHOST}`?",
    ),
    (
        "[[link]]\nname = \"A\"\npath = \"/\"\nnote = \"${DATABASE_URL}\"",
        "line 4: link.note holds `${DATABASE_URL}`, which is not an entry of [env]",
    ),
    (
        "[[link]]\nname = \"A\"\npath = \"/\"\nnote = \"${X}\"\n[env]\nX = \"a${random:4}\"",
        "line 4: link.note shows `${X}`, which is \"a${random:4}\"; a note may only show entries of [env] made of random parts only, such as \"${random:12}\"",
    ),
    (
        "[[link]]\nname = \"A\"\npath = \"/\"\nnote = \"${X}\"\n[env]\nX = \"\"",
        "line 4: link.note shows `${X}`, which is \"\"; a note may only show entries of [env] made of random parts only, such as \"${random:12}\"",
    ),
    (
        "[[link]]\nname = \"A\"\npath = \"/\"\nnote = \"${random:4}\"",
        "line 4: link.note may not hold a random part itself: put it into [env] and name that entry",
    ),
    // The file itself.
    ("port = 1\nport = 2", "line 2: not TOML: duplicate key"),
    ("port = 1\n\n[build\n", "line 3: not TOML: unclosed table, expected `]`"),
];

#[test]
fn what_is_wrong_is_said_with_key_and_line() {
    for (text, message) in REFUSED {
        let error = parse(text).map(|_| "accepted".to_owned()).unwrap_or_else(|error| error);
        assert_eq!(error, format!(".sidestage.toml {message}"), "of {text:?}");
    }
}
