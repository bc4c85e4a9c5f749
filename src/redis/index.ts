export * as RedisBackplane from "./RedisBackplane.ts"
export * as RedisHistory from "./RedisHistory.ts"
