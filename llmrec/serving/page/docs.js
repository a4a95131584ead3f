"use strict";
// The API's description, read by Swagger UI; nothing is fetched from elsewhere.
window.SwaggerUIBundle({ url: "/openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null });
