// Numbers, times and durations as text.

import { locale } from "./strings.js";

export const NONE = "–";
const two = (number) => String(number).padStart(2, "0");

export function clock(at) {
  if (!at) return NONE;
  const date = new Date(at * 1000);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? time : `${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}

export function duration(seconds) {
  if (seconds == null) return NONE;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} m`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function latency(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

// Formats costs like the command line.
export function dollars(cost) {
  if (cost == null) return NONE;
  if (cost > 0 && cost < 0.0001) return "<$0.0001";
  const digits = cost >= 0.1 || cost === 0 ? 2 : 4;
  return `$${cost.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

export function count(number) {
  if (number == null) return NONE;
  if (number < 10000) return number.toLocaleString(locale());
  if (number < 1e6) return `${(number / 1e3).toFixed(number < 1e5 ? 1 : 0)}k`;
  return `${(number / 1e6).toFixed(number < 1e8 ? 2 : 0)}M`;
}

export const percent = (part) => (part == null ? NONE : `${Math.round(part * 100)} %`);
export const shortId = (id) => (id.length > 14 ? `…${id.slice(-8)}` : id);
export const tokens = (one) => (one.input || 0) + (one.cached || 0) + (one.written || 0);
export const sum = (numbers) => numbers.reduce((total, number) => total + (number || 0), 0);
