// Stands in for Razorpay's checkout.js: the same window.Razorpay, over the simulator that this script came from.
(function () {
  "use strict";
  var home = new URL(document.currentScript.src).origin;

  function Razorpay(options) {
    if (!(this instanceof Razorpay)) return new Razorpay(options);
    if (!options || !options.key) throw new Error("No key passed");
    this.options = options;
    this.modal = { options: options.modal || {} };
    this._listeners = {};
    this._frame = null;
    this._heard = this._hear.bind(this);
  }

  Razorpay.open = function (options) {
    var one = new Razorpay(options);
    one.open();
    return one;
  };

  Razorpay.prototype.on = function (event, listener) {
    (this._listeners[event] = this._listeners[event] || []).push(listener);
    return this;
  };

  Razorpay.prototype.off = function (event, listener) {
    this._listeners[event] = (this._listeners[event] || []).filter(function (one) {
      return listener && one !== listener;
    });
    return this;
  };

  Razorpay.prototype.emit = function (event, data) {
    (this._listeners[event] || []).forEach(function (listener) { listener(data); });
  };

  Razorpay.prototype.open = function () {
    if (this._frame) return this;
    var options = this.options, prefill = options.prefill || {}, query = new URLSearchParams();
    query.set("origin", location.origin);
    query.set("key", options.key);
    ["name", "description"].forEach(function (name) { if (options[name]) query.set(name, options[name]); });
    ["email", "contact", "method"].forEach(function (name) { if (prefill[name]) query.set(name, prefill[name]); });
    if (options.theme && options.theme.color) query.set("color", options.theme.color);
    var frame = document.createElement("iframe");
    frame.className = "razorpay-checkout-frame";
    frame.title = "Razorpay checkout (simulated)";
    frame.src = home + "/checkout/" + encodeURIComponent(options.order_id || "none") + "?" + query;
    frame.style.cssText = "position:fixed;inset:0;width:100%;height:100%;border:0;z-index:2147483647;background:none";
    document.body.appendChild(frame);
    this._frame = frame;
    window.addEventListener("message", this._heard);
    if (options.timeout) {
      var self = this;
      this._timer = setTimeout(function () { self._dismiss("timeout"); }, options.timeout * 1000);
    }
    return this;
  };

  Razorpay.prototype.close = function () {
    if (!this._frame) return;
    clearTimeout(this._timer);
    window.removeEventListener("message", this._heard);
    this._frame.remove();
    this._frame = null;
  };

  Razorpay.prototype._dismiss = function (reason) {
    var ondismiss = (this.options.modal || {}).ondismiss;
    this.close();
    if (ondismiss) ondismiss(reason);
  };

  Razorpay.prototype._hear = function (message) {
    if (message.origin !== home || !this._frame || message.source !== this._frame.contentWindow) return;
    var told = message.data;
    if (told.kind === "failed") {
      this.emit("payment.failed", told.data);
      if (this.options.redirect && this.options.callback_url) this._post(told.fields);
    } else if (told.kind === "paid") {
      this.close();
      if (this.options.callback_url && (this.options.redirect || !this.options.handler)) this._post(told.fields);
      else if (this.options.handler) this.options.handler(told.data);
    } else if (told.kind === "dismissed") {
      this._dismiss(undefined);
    }
  };

  Razorpay.prototype._post = function (fields) {
    var form = document.createElement("form");
    form.method = "post";
    form.action = this.options.callback_url;
    Object.keys(fields).forEach(function (name) {
      var input = document.createElement("input");
      input.type = "hidden";
      input.name = name;
      input.value = fields[name];
      form.appendChild(input);
    });
    document.body.appendChild(form);
    form.submit();
  };

  window.Razorpay = Razorpay;
})();
