// Fetches what GitHub publishes about its own interface, checks it, and keeps of it what tests judge by:
// node oracles.mjs REGISTRY FOLDER
import { createHash } from "node:crypto";
import { execFileSync } from "node:child_process";
import { mkdirSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const PACKAGES = [
  ["openapi", "23.0.2", "sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg==", "package/generated/api.github.com.json"],
  ["webhooks-schemas", "7.6.1", "sha512-qW0Bwtb76r4m2WzVhKDyfEeEnt1GEQoRjkCqmq2ZeB0nNVDJ+Z2LBDS9FDPyduuMXf/ZTWiCJp9PFFHgRfBe3A==", "package/schema.json"],
  ["webhooks-examples", "7.6.1", "sha512-De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ==", "package/api.github.com/index.json"],
  ["graphql-schema", "15.26.1", "sha512-RFDC2MpRBd4AxSRvUeBIVeBU7ojN/SxDfALUd7iVYOSeEK3gZaqR2MGOysj4Zh2xj2RY5fQAUT+Oqq7hWTraMA==", "package/schema.graphql"],
];

// The part of the 811 paths that has to do with pull requests and what is reported on them.
const PATHS = [
  /^\/(app|user|meta|rate_limit)$/,
  /^\/app-manifests\//,
  /^\/app\/(hook|installations)/,
  /^\/installation\//,
  /^\/users\/\{username\}$/,
  /^\/orgs\/\{org\}\/(teams|members|memberships)(\/|$)/,
  /^\/repos\/\{owner\}\/\{repo\}$/,
  /^\/repos\/\{owner\}\/\{repo\}\/(pulls|issues|commits|statuses|check-runs|check-suites|deployments|environments|collaborators|hooks|branches|compare|git|contents|installation|teams|labels|tags)(\/|$)/,
];

const [registry, folder] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const contents = [];
for (const [name, version, expected, inside] of PACKAGES) {
  const url = `${registry}/@octokit/${name}/-/${name}-${version}.tgz`;
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answers ${response.status}`);
  const archive = Buffer.from(await response.arrayBuffer());
  const found = `sha512-${createHash("sha512").update(archive).digest("base64")}`;
  if (found !== expected) throw new Error(`${url} is ${found}, not ${expected}`);
  const file = join(folder, `${name}.tgz`);
  writeFileSync(file, archive);
  contents.push(execFileSync("tar", ["-xzOf", file, inside], { maxBuffer: 1 << 28 }));
  unlinkSync(file);
}

// 13 MB become half a megabyte: the paths above, and the components that they lead to.
const [openapi, webhooks, examples, graphql] = contents;
const whole = JSON.parse(openapi);
const paths = Object.fromEntries(Object.entries(whole.paths).filter(([path]) => PATHS.some((known) => known.test(path))));
const components = {};
const queue = [paths];
while (queue.length > 0) {
  const value = queue.pop();
  if (value === null || typeof value !== "object") continue;
  delete value.examples;
  const [, kind, name] = /^#\/components\/([^/]+)\/(.+)$/.exec(typeof value.$ref === "string" ? value.$ref : "") ?? [];
  if (name !== undefined && kind !== "examples" && components[kind]?.[name] === undefined) {
    (components[kind] ??= {})[name] = whole.components[kind][name];
    queue.push(components[kind][name]);
  }
  queue.push(...Object.values(value));
}
writeFileSync(join(folder, "webhooks.json"), webhooks);
writeFileSync(join(folder, "examples.json"), examples);
writeFileSync(join(folder, "schema.graphql"), graphql);
// Last: its presence says that all is there.
const draft = join(folder, "openapi.json.new");
writeFileSync(draft, JSON.stringify({ paths, components }));
renameSync(draft, join(folder, "openapi.json"));
