export * as ClientProtocol from "./ClientProtocol.ts"
export * as ServerProtocol from "./ServerProtocol.ts"
