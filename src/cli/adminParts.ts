/** What `serve` loads after it listens. */
export * as Admin from "../node/Admin.ts"
export * as SystemMetrics from "../node/SystemMetrics.ts"
