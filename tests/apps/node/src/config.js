const required = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
};

export default {
  port: Number(process.env.PORT ?? 3000),
  databaseUrl: required("DATABASE_URL"),
  redisUrl: required("REDIS_URL"),
  bucket: required("BUCKET"),
  publicUrl: required("PUBLIC_URL"),
  sessionSecret: required("SESSION_SECRET"),
};
