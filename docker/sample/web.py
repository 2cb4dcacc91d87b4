"""The web process of the guest book."""

import asyncio
import html
import os
import time

import boto3
import psycopg
import redis
from aiohttp import WSMsgType, web

SHA = os.environ.get("STAGING_SHA", "unknown")
BUCKET = os.environ["S3_BUCKET"]
GREETING = open(os.path.join(os.path.dirname(__file__), "greeting.txt"), encoding="utf-8").read().strip()

objects = boto3.client("s3")
cache = redis.Redis.from_url(os.environ["REDIS_URL"])


def database():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def count_visit():
    with database() as connection:
        connection.execute("INSERT INTO visits DEFAULT VALUES")
        return connection.execute("SELECT count(*) FROM visits").fetchone()[0]


def keep(key, body):
    objects.put_object(Bucket=BUCKET, Key=key, Body=body)
    with database() as connection:
        connection.execute(
            "INSERT INTO uploads (key, size) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET size = excluded.size",
            [key, len(body)],
        )


def list_uploads():
    listed = objects.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return {entry["Key"]: entry["Size"] for entry in listed}


def presign(key):
    return objects.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key}, ExpiresIn=600)


def facts(visits):
    beat = cache.get("worker")
    with database() as connection:
        name = connection.execute("SELECT current_database()").fetchone()[0]
        migrations = connection.execute("SELECT count(*) FROM migrations").fetchone()[0]
    return {
        "greeting": GREETING,
        "sha": SHA,
        "visits": visits,
        "uploads": list_uploads(),
        "database": name,
        "bucket": BUCKET,
        "migrations": migrations,
        "worker_seen_seconds_ago": None if beat is None else int(time.time()) - int(beat),
        "url": os.environ.get("STAGING_URL"),
    }


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{greeting}</title>
<style>body{{font:1rem/1.5 system-ui;max-width:42rem;margin:2rem auto;padding:0 1rem}}code{{font-size:.9em}}
dt{{color:#666}}dd{{margin:0 0 .6rem}}</style></head>
<body><h1>{greeting}</h1>
<dl><dt>Commit</dt><dd><code>{sha}</code></dd>
<dt>Visits in this database (<code>{database}</code>)</dt><dd id="visits">{visits}</dd>
<dt>Worker seen</dt><dd>{worker_seen_seconds_ago} s ago</dd>
<dt>Socket</dt><dd id="socket">connecting</dd></dl>
<h2>Uploads in <code>{bucket}</code></h2><ul id="uploads">{list}</ul>
<form method="post" action="/upload" enctype="multipart/form-data">
<input type="file" name="file" required aria-label="File"> <button>Upload</button></form>
<script>const s=new WebSocket(location.origin.replace(/^http/,"ws")+"/ws");
s.onopen=()=>s.send("hello");s.onmessage=m=>{{document.getElementById("socket").textContent=m.data}};</script>
</body></html>"""


def render(found):
    items = "".join(
        f'<li><a href="/file?key={html.escape(key)}">{html.escape(key)}</a>, {size} bytes</li>'
        for key, size in found["uploads"].items()
    )
    shown = {name: html.escape(str(value)) for name, value in found.items()}
    return PAGE.format(**shown, list=items or "<li>none yet</li>")


async def in_thread(function, *arguments):
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


async def index(_request):
    found = await in_thread(lambda: facts(count_visit()))
    return web.Response(text=render(found), content_type="text/html")


async def api(_request):
    return web.json_response(await in_thread(lambda: facts(count_visit())))


async def upload(request):
    form = await request.post()
    field = form["file"]
    await in_thread(keep, field.filename, field.file.read())
    raise web.HTTPSeeOther("/")


async def file(request):
    raise web.HTTPFound(await in_thread(presign, request.query["key"]))


async def socket(request):
    peer = web.WebSocketResponse()
    await peer.prepare(request)
    async for message in peer:
        if message.type == WSMsgType.TEXT:
            await peer.send_str(f"{SHA[:7]} heard {message.data}")
    return peer


async def healthz(_request):
    return web.Response(text="ok")


application = web.Application(client_max_size=64 << 20)
application.add_routes(
    [
        web.get("/", index),
        web.get("/api", api),
        web.get("/file", file),
        web.get("/healthz", healthz),
        web.get("/ws", socket),
        web.post("/upload", upload),
    ]
)

if __name__ == "__main__":
    web.run_app(application, port=int(os.environ.get("PORT", "8080")), print=None)
