import { createHmac, randomUUID } from "node:crypto";
import express from "express";
import multer from "multer";
import config from "./config.js";
import { query } from "./database.js";
import { queue } from "./queue.js";
import * as storage from "./storage.js";

const app = express();
const jobs = queue();
const upload = multer({ storage: multer.memoryStorage() });
const token = createHmac("sha256", config.sessionSecret).update("form").digest("hex");

app.set("view engine", "ejs");
app.set("trust proxy", true);
app.use(express.static("public"));

app.get("/healthz", async (req, res) => {
  await query("SELECT 1");
  res.send("ok");
});

app.get("/", async (req, res) => {
  const notices = await query("SELECT * FROM notices ORDER BY id");
  res.render("index", { notices, token, url: config.publicUrl, protocol: req.protocol });
});

app.get("/notices/:id/file", async (req, res) => {
  const [notice] = await query("SELECT file FROM notices WHERE id = $1", [req.params.id]);
  if (!notice) return res.sendStatus(404);
  res.redirect(await storage.link(notice.file));
});

app.post("/notices", upload.single("file"), async (req, res) => {
  if (req.body.token !== token) return res.sendStatus(403);
  const key = `${randomUUID()}/${req.file.originalname}`;
  await storage.put(key, req.file.buffer, req.file.mimetype);
  const [notice] = await query("INSERT INTO notices (title, file) VALUES ($1, $2) RETURNING id", [req.body.title, key]);
  await jobs.add("count", { id: notice.id });
  res.redirect(303, "/");
});

app.listen(config.port, () => console.log(`listening on ${config.port}`));
