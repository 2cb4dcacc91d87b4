exports.up = (pgm) => {
  pgm.createTable("notices", {
    id: "id",
    title: { type: "text", notNull: true },
    file: { type: "text", notNull: true },
    lines: { type: "integer" },
    created_at: { type: "timestamptz", notNull: true, default: pgm.func("current_timestamp") },
  });
};

exports.down = (pgm) => {
  pgm.dropTable("notices");
};
